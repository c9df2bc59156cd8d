"""Processes odd files from the wild, if they are beside the checkout; none may crash a worker."""

from __future__ import annotations

import csv
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from features import ClipFeatures, Job, JobKind, MediaError, MediaInfo, Reason, VisualConfig

Outcome = ClipFeatures | MediaInfo | MediaError
KINDS = (JobKind.PROBE, JobKind.VIDEO, JobKind.MUSIC)
CPU_SECONDS = 240
LOST = {Reason.CRASHED, Reason.TIMED_OUT, Reason.OUT_OF_MEMORY}
# Result as a video, by the start of the note that other decoders' results gave in MANIFEST.csv.
AS_VIDEO: dict[str, set[Reason | None]] = {
    "ok": {None},
    "exactly 1 frame": {None},
    "rotation or corruption": {None},
    "PyAV fails, OpenCV opens": {None},
    "audio only": {Reason.NO_VIDEO},
    "container opens, no streams": {Reason.NO_VIDEO},
    "OpenCV opens but decodes 0 frames": {Reason.UNDECODABLE},
    "unopenable by both": {Reason.TRUNCATED, Reason.NO_VIDEO},
    "zero-length": {Reason.EMPTY},
    "CRASH": {Reason.NO_VIDEO},
}


@pytest.fixture(scope="module")
def odd() -> Path:
    folder = Path(__file__).parents[5] / "shared" / "media" / "odd"
    if not folder.is_dir():
        pytest.skip("no ../shared/media/odd beside the checkout")
    return folder


@pytest.fixture(scope="module")
def seen(odd: Path) -> dict[str, str]:
    """Return the note on other decoders' results for each file that exists."""
    with (odd / "MANIFEST.csv").open(newline="") as file:
        rows = {row["file"]: row["seen"] for row in csv.DictReader(file)}
    return {name: words for name, words in rows.items() if (odd / name).is_file()}


@pytest.fixture(scope="module")
def outcomes(
    run: Callable[..., dict[str, Outcome]], odd: Path, seen: dict[str, str]
) -> dict[tuple[str, str], Outcome]:
    jobs = [Job(f"{name}|{kind}", odd / name, kind) for name in sorted(seen) for kind in KINDS]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = run(jobs, workers=2, visual=VisualConfig())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_SECONDS
    return {tuple(key.split("|")): result for key, result in found.items()}  # type: ignore[misc]


def test_every_odd_file_gives_features_or_a_reason_and_crashes_no_worker(
    outcomes: dict[tuple[str, str], Outcome], seen: dict[str, str]
) -> None:
    assert len(seen) > 40
    assert len(outcomes) == len(seen) * len(KINDS)
    lost = {
        key: str(result)
        for key, result in outcomes.items()
        if isinstance(result, MediaError) and result.reason in LOST
    }
    assert not lost


def test_odd_files_give_the_expected_result(
    outcomes: dict[tuple[str, str], Outcome], seen: dict[str, str]
) -> None:
    wrong = {}
    for name, words in seen.items():
        found = outcomes[name, "video"]
        reason = found.reason if isinstance(found, MediaError) else None
        allowed = next(value for start, value in AS_VIDEO.items() if words.startswith(start))
        if reason not in allowed:
            wrong[name] = str(found)
    assert not wrong


def test_a_probe_finds_exactly_what_can_be_extracted(
    outcomes: dict[tuple[str, str], Outcome], seen: dict[str, str]
) -> None:
    for name in seen:
        info = outcomes[name, "probe"]
        has_video = isinstance(info, MediaInfo) and info.has_video
        has_audio = isinstance(info, MediaInfo) and info.has_audio
        assert has_video == isinstance(outcomes[name, "video"], ClipFeatures), name
        assert has_audio == isinstance(outcomes[name, "music"], ClipFeatures), name
