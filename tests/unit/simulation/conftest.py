"""A tiny rendered world, shared by the tests of rendering, landing, truth and odd rows."""

from __future__ import annotations

import pytest

from simulation.render import RenderedWorld, render_world
from simulation.truth import Truth, load_truth
from tests.helpers.rendered_world import TINY


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> RenderedWorld:
    out = tmp_path_factory.mktemp("world") / "days"
    return render_world(out, seed=5, workers=2, sizes=TINY)


@pytest.fixture(scope="session")
def truth(tiny: RenderedWorld) -> Truth:
    return load_truth(tiny.truth)[0]
