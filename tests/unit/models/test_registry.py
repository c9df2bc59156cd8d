"""The lookup of variants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from models import ModelConfig
from models.config import VariantName
from models.debcm import DEBCM
from models.paper import PAPER, RELEASED
from models.registry import variant_of

ROOT = Path(__file__).parents[3]
EXPECTED = {"debcm": DEBCM, "paper": PAPER, "released": RELEASED}


@pytest.mark.parametrize("name", get_args(VariantName))
def test_each_name_has_its_variant(name: VariantName) -> None:
    assert variant_of(ModelConfig.preset(name)) is EXPECTED[name]


def test_the_default_does_not_import_the_papers_model() -> None:
    script = (
        "import sys; from models import ModelConfig, fit; from models.registry import variant_of;"
        "variant_of(ModelConfig());"
        "print([name for name in ('models.debcm', 'models.paper') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "['models.debcm']"
