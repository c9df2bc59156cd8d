"""The scripts in examples/ run as their docstrings say.

Those that read a release run in tests/unit/pipeline/releases/test_serving_examples.py, which has
a release.
"""

from __future__ import annotations

import ast
import re

from tests.helpers.examples import CHECKOUT, EXAMPLES, run_example

READ_A_RELEASE = ("recommend.py", "read_release.py")


def test_training_on_arrays_beats_popularity() -> None:
    lines = run_example("train_on_arrays.py")
    recall = dict(re.findall(r"^(\w+) +recall@10 ([\d.]+)$", "\n".join(lines), re.MULTILINE))
    assert float(recall["debcm"]) > 2 * float(recall["popularity"])


def test_every_example_is_run_by_a_test_and_shows_its_command() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {*READ_A_RELEASE, "train_on_arrays.py"}
    other = CHECKOUT / "tests" / "unit" / "pipeline" / "releases" / "test_serving_examples.py"
    for name in READ_A_RELEASE:
        assert f'"{name}"' in other.read_text(encoding="utf-8")
    for name in names:
        doc = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
        assert doc
        assert f"python examples/{name}" in doc
