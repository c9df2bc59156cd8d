"""Difficult deliveries: late, repeated, out of order, hostile, or all from one uploader."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipeline.context import Context
from pipeline.ingestion import delivery, ingest
from pipeline.releases.serving import Release
from pipeline.settings.load import Settings
from pipeline.settings.sections import LakeSettings
from pipeline.training import confounders, dataset
from simulation.lake import Latents, SimulatedDay, write_simulated_day
from tests.faults.fault_harness import copy_lake, tables
from tests.faults.fault_nights import run_to_gate
from tests.faults.fault_report import format_counts
from tests.faults.fault_sites import DAYS, Site, make_site
from tests.helpers.deliveries import track, video, write_day

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

HOSTILE = [
    "=1+1",
    "@SUM(A1:A9)",
    "../../etc/passwd",
    "/absolute",
    "back\\slash",
    "'; DROP TABLE videos; --",
    '" OR ""="',
    "100%00",
    "{{7*7}}",
    "<script>document.title='owned'</script>",
    "😀🎵🇺🇳",
    "مقطع فيديو",
    "\u202egnp.exe",
    "e\u0301",
    "é",
    "x" * 4096,
    "a#b,c|d",
    " padded ",
]
CATALOGUE = ("videos", "music", "segments", "quarantine")


def deliver_day(site: Site, media: Path, number: int, *, again: bool = False) -> None:
    """Deliver one of three days with conflicting ids; `again` delivers the second day corrected."""
    day = DAYS[number]
    videos = {
        0: [
            video("v1", "red.mp4"),
            video("ahead", "red.mp4", uploaded_at="2026-03-09T00:00:00Z"),
            video("p1", "music_video.mp4", source="pgc", uploader_id="", music_id=""),
        ],
        1: [
            video("v1", "red.mp4"),
            video("v2", "green.mp4" if again else "noise.mp4"),
            video("v3", "blue.webm", music_id="m3" if again else "unknown"),
        ],
        2: [video("v1", "green.mp4"), video("v2", "green.mp4"), video("v4", "red.mp4")],
    }
    music = {
        0: [track("m1", "low.ogg")],
        1: [track("m2", "high.mp3", genre="a genre never seen"), track("m3", "high.mp3")],
        2: [track("m1", "high.mp3")],
    }
    write_day(site.landing, day, videos[number], music[number], media)


def settle(site: Site) -> None:
    """Ingest changed days again until none is left, as the following nights do."""
    for _ in range(len(DAYS)):
        for day in delivery.unfinished_days(Context(site.settings), DAYS[0], DAYS[-1]):
            ingest.run(Context(site.settings), day)


def test_days_in_every_order_and_repeated_give_the_same_catalogue(
    tmp_path: Path, small_media: Path, record: Callable[..., None]
) -> None:
    reference = make_site(tmp_path / "reference")
    for number in range(3):
        deliver_day(reference, small_media, number, again=True)
        ingest.run(Context(reference.settings), DAYS[number])
    expected = tables(reference.root)
    reasons = Counter(expected["quarantine"]["reason"])
    assert {"future_upload", "repeated", "id_conflict"} <= set(reasons)
    assert "other" in set(expected["music"]["genre_group"])
    orders = list(itertools.permutations(range(3)))
    for order in orders:
        site = make_site(tmp_path / "".join(map(str, order)))
        for number in order:
            deliver_day(site, small_media, number)
            ingest.run(Context(site.settings), DAYS[number])
        deliver_day(site, small_media, 1, again=True)
        settle(site)
        found = tables(site.root)
        assert [name for name in CATALOGUE if not found[name].equals(expected[name])] == [], order
    record(
        "days out of order, one delivered again with changes",
        "three days with conflicting ids, in every order, the second one corrected afterwards; "
        f"uploads dated in the future, an unknown genre; rejected rows: {format_counts(reasons)}",
        len(orders),
        "no data lost: the catalogue equals that of days in order",
    )


def test_hostile_ids_stay_unchanged_up_to_the_release(
    tmp_path: Path, world_once: Path, record: Callable[..., None]
) -> None:
    site = make_site(tmp_path / "site")
    copy_lake(world_once, site.root)
    renamed = {
        column: {f"{letter}{number:08d}": name for number, name in enumerate(HOSTILE)}
        for column, letter in (("video_id", "v"), ("music_id", "m"), ("uploader_id", "u"))
    }
    for table in ("videos", "music"):
        rows = site.lake.read(table, pl.col("dt") == DAYS[0])
        for column in renamed.keys() & set(rows.columns):
            rows = rows.with_columns(pl.col(column).replace(renamed[column]))
        if table == "music":
            rows = rows.with_columns(title=pl.col("music_id"), artist=pl.col("music_id"))
        site.lake.replace(table, rows, {"dt": DAYS[0]})
    run_id = run_to_gate(site.steps.run, str(DAYS[0]))
    site.steps.run("publish", run_id)
    site.steps.run("report", run_id)
    release = Release.open(site.root)
    assert set(HOSTILE) <= set(release.video_ids)
    recommended = {
        hit.music_id for name in release.video_ids for hit in release.recommend_known(name, top=40)
    }
    assert set(HOSTILE) <= recommended
    pages = [page.read_text(encoding="utf-8") for page in site.root.rglob("*.html")]
    assert pages
    assert not any("<script>document.title" in page for page in pages)
    record(
        "hostile ids and titles",
        "ids of videos, tracks and uploaders, from catalogue to report: paths, formulas, SQL, "
        "templates, scripts, emoji, right-to-left text, 4 KB, two encodings of one letter",
        3 * len(HOSTILE),
        "no data lost: every id came back unchanged; no page contained the unescaped script",
    )


def test_100k_videos_of_one_uploader_are_all_used(
    tmp_path: Path, record: Callable[..., None]
) -> None:
    settings = Settings(lake=LakeSettings(root=str(tmp_path / "lake")))
    site_lake = make_site(tmp_path).lake
    day = SimulatedDay(DAYS[0], videos=100_000, music=500, uploaders=1)
    write_simulated_day(settings, site_lake, day, Latents.make(500, 4, 4, 0))
    summary = confounders.run(Context(settings), DAYS[0])
    assert (summary.uploaders, summary.picks) == (1, 100_000)
    made = dataset.build(Context(settings), DAYS[0])
    assert made.videos == 100_000
    assert made.train + made.validation + made.test == 100_000
    record(
        "100,000 videos of one uploader",
        "a day on which all videos are by the same uploader: statistics and dataset",
        100_000,
        "no data lost: every video is counted once",
    )
