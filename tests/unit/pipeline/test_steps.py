"""The steps as tasks and commands call them: settings from the environment, results as JSON."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import steps
from pipeline.errors import FutureDayError, ManifestError, NotEnoughDataError
from pipeline.settings.load import Settings
from pipeline.upkeep.erasure import ErasureSummary

DAY = dt.date(2026, 3, 1)


def test_importing_the_steps_imports_neither_torch_nor_onnx_runtime() -> None:
    code = "import sys, pipeline.steps; print({'torch', 'onnxruntime'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_newest_day_is_that_of_the_newest_features(
    settings: Settings, account: Callable[[dt.date], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", settings.lake.root)
    with pytest.raises(NotEnoughDataError, match="no landing day has complete features"):
        steps.newest_day()
    for day in (DAY + dt.timedelta(days=1), DAY):
        account(day)
    assert steps.newest_day() == "2026-03-02"


@pytest.mark.parametrize("step", [steps.confounders, steps.dataset])
def test_a_day_after_the_newest_is_refused(
    step: Callable[[str], object],
    settings: Settings,
    account: Callable[[dt.date], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault 40: preferences as of 2206 would count as the newest for ever."""
    monkeypatch.setenv("DEBCM_LAKE__ROOT", settings.lake.root)
    account(DAY)
    with pytest.raises(FutureDayError, match=r"newest ingested day is 2026-03-01 \(2206-03-01\)"):
        step("2206-03-01")
    with pytest.raises(NotEnoughDataError):
        step("2026-03-01")


def test_unreadable_deletion_requests_fail_the_step_after_the_others_are_applied(
    settings: Settings, platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", settings.lake.root)
    monkeypatch.setenv("DEBCM_LANDING__ROOT", str(settings.landing.root))
    erased: list[bool] = []
    monkeypatch.setattr(
        "pipeline.upkeep.erasure.run",
        lambda _: erased.append(True) or ErasureSummary(0, 0, 0, 0, (), ()),
    )
    folder = platform.deliver(dt.date(2020, 1, 1), [], [])
    assert steps.apply_deletions()["requests"] == 0
    (folder / "deletions.csv").touch()
    with pytest.raises(ManifestError, match=r"dt=2020-01-01/deletions\.csv"):
        steps.apply_deletions()
    assert erased == [True, True]


def test_missed_days_are_returned_and_measured(
    settings: Settings, platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", settings.lake.root)
    monkeypatch.setenv("DEBCM_LANDING__ROOT", str(settings.landing.root))
    platform.deliver(dt.date(2020, 1, 1), [], [])
    assert steps.missed_days() == ["2020-01-01"]
    ingested = {"rows": 0, "accepted": 0, "rejected": {}}
    measured = steps.measure_day(ingested, {"clips": 0, "rejected": {}}, [])
    assert measured["debcm.missed_days"] == 1


def test_a_run_is_evaluated_and_judged_with_json_results(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", toy.settings.lake.root)
    assert steps.run_ids() == [toy.run_id]
    evaluated = steps.evaluate(toy.run_id)
    decided = steps.gate(toy.run_id)
    for result in (evaluated, decided):
        assert json.loads(json.dumps(result))["run_id"] == toy.run_id
    assert decided["decision"] == "publish"
    assert steps.measure_run(decided)["debcm.test_rows"] == evaluated["rows"]
    assert not steps.is_settled(toy.run_id), "it was not published yet"


def test_without_a_lake_there_are_no_runs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", str(tmp_path / "nowhere"))
    assert steps.run_ids() == []
