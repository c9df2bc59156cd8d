"""Damaged files: named when they are read, never used in silence."""

from __future__ import annotations

import datetime as dt
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.errors import ProvenanceError
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.sections import LakeSettings
from pipeline.storage.store import Store
from tests.faults.fault_harness import copy_lake
from tests.faults.fault_nights import judged
from tests.faults.fault_sites import DAYS, Site, make_site

TABLE = "visual_features"
Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def gone(path: Path) -> None:
    path.unlink()


def flip(path: Path, rng: np.random.Generator) -> None:
    """Turn one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def features(first: int, count: int = 1, dim: int = 8) -> pl.DataFrame:
    rng = np.random.default_rng(first)
    rows = [
        {
            "content_hash": f"{first + number:064x}",
            "segment": -1,
            "extractor": "test@1",
            "embedding": rng.standard_normal(dim).tolist(),
            "frames": 16,
            "decoder": "pyav",
            "dt": dt.date(2026, 3, 1),
        }
        for number in range(count)
    ]
    return TABLES[TABLE].frame(rows)


@pytest.fixture(scope="module")
def sound_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four commits, a checkpoint, a commit."""
    root = tmp_path_factory.mktemp("sound") / "lake"
    lake = Lake(LakeSettings(root=str(root)))
    for number in range(3):
        lake.add(TABLE, features(number))
    delta = lake.delta(TABLE)
    assert delta is not None
    delta.create_checkpoint()
    lake.add(TABLE, features(3))
    return root


# A log that ends one entry earlier is an older table, and whole: no case of its own.
@pytest.mark.parametrize(
    ("what", "damage"),
    [
        *(
            (what, damage)
            for what in ("data", "checkpoint")
            for damage in (cut, empty, noise, gone)
        ),
        *(("log entry", damage) for damage in (cut, empty, noise)),
    ],
)
def test_damaged_table_is_named_and_not_read(
    tmp_path: Path, sound_lake: Path, what: str, damage: Damage
) -> None:
    root = copy_lake(sound_lake, tmp_path / "lake")
    damage(table_file(root, what))
    lake = Lake(LakeSettings(root=str(root)))
    with pytest.raises(ProvenanceError, match=TABLE):
        lake.read(TABLE)


def table_file(root: Path, what: str) -> Path:
    """The newest data file, log entry or checkpoint of the table."""
    table = root / "tables" / TABLE
    pattern = {
        "data": "extractor=*/*/*.parquet",
        "log entry": "_delta_log/*.json",
        "checkpoint": "_delta_log/*.checkpoint.parquet",
    }
    return max(table.glob(pattern[what]), key=lambda path: (path.stat().st_mtime_ns, path.name))


@pytest.mark.parametrize("text", ["", "{", '{"promotions": []}', "\x00\x00"])
def test_damaged_pointer_is_named(tmp_path: Path, text: str) -> None:
    from pipeline.releases.current import read_current

    store = Store(LakeSettings(root=str(tmp_path / "lake")))
    assert store.replace_pointer("releases/current.json", text, None)
    with pytest.raises(ProvenanceError, match=r"releases/current\.json"):
        read_current(store)


def flipped(lake: Lake, flips: int) -> Counter[str]:
    """What became of reads after one bit of a table's largest file was turned over."""
    written = lake.read(TABLE)
    delta = lake.delta(TABLE)
    assert delta is not None
    path = max(map(Path, delta.file_uris()), key=lambda one: one.stat().st_size)
    content = path.read_bytes()
    rng = np.random.default_rng(5)
    seen: Counter[str] = Counter()
    for _ in range(flips):
        flip(path, rng)
        try:
            seen["harmless" if lake.read(TABLE).equals(written) else "unnoticed"] += 1
        except ProvenanceError as error:
            seen["named" if path.name in str(error) else "file not named"] += 1
        path.write_bytes(content)
    return seen


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_flipped_bits_in_tables_are_named(tmp_path: Path, record: Callable[..., None]) -> None:
    """In large files most bits are numbers; in small ones a third are the footer's."""
    seen: Counter[str] = Counter()
    for count, dim, flips in ((300, 1280, 100), (20, 16, 900)):
        lake = Lake(LakeSettings(root=str(tmp_path / str(count))))
        lake.add(TABLE, features(0, count=count // 2, dim=dim))
        seen += flipped(lake, flips // 2)
        lake.add(TABLE, features(count, count=count // 2, dim=dim))
        lake.compact(TABLE)
        seen += flipped(lake, flips // 2)
    assert seen.total() == 1000
    assert set(seen) == {"named", "harmless"}
    record(
        "one bit turned over in a table's Parquet file",
        "at random places of large files and of small ones, as merges and as compaction wrote them",
        seen.total(),
        f"nothing: {seen['named']} named, with the file, on reading; {seen['harmless']} without "
        "effect on what was read",
    )


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_flipped_bits_in_logs_are_named(tmp_path: Path, record: Callable[..., None]) -> None:
    """Files added, replaced and removed; then the same behind a checkpoint."""
    lake = Lake(LakeSettings(root=str(tmp_path / "lake")))
    for number in range(4):
        lake.add(TABLE, features(3 * number, count=3))
    lake.upsert(TABLE, features(2, count=5))
    lake.delete(TABLE, f"content_hash = '{1:064x}'")
    rng = np.random.default_rng(8)
    entries = flipped_in_log(lake, "*.json", 300, rng)
    lake.remove_old_versions(TABLE, 0)
    checkpoints = flipped_in_log(lake, "*.checkpoint.parquet", 300, rng)
    assert set(entries) == {"named", "harmless"}
    # What ends the step in the library's own words is not used either.
    assert set(checkpoints) <= {"named", "harmless", "PanicException"}
    record(
        "one bit turned over in a table's log",
        "at random places: 300 in its entries, 300 in a checkpoint",
        entries.total() + checkpoints.total(),
        f"nothing: {entries['named']} and {checkpoints['named']} named on reading; "
        f"{entries['harmless']} and {checkpoints['harmless']} without effect on what was read; "
        f"{checkpoints['PanicException']} ended the reader without naming the file",
    )


def flipped_in_log(lake: Lake, pattern: str, flips: int, rng: np.random.Generator) -> Counter[str]:
    """What became of reads after one bit of a log's file was turned over."""

    def rows() -> pl.DataFrame:
        return lake.read(TABLE).sort("content_hash")

    written = rows()
    files = sorted((Path(lake.uri(TABLE)) / "_delta_log").glob(pattern))
    seen: Counter[str] = Counter()
    for _ in range(flips):
        path = files[rng.integers(len(files))]
        content = path.read_bytes()
        flip(path, rng)
        try:
            seen["harmless" if rows().equals(written) else "unnoticed"] += 1
        except ProvenanceError as error:
            seen["named" if TABLE in str(error) else "table not named"] += 1
        except BaseException as error:  # a panic of Rust's is no Exception
            seen[type(error).__name__] += 1
        path.write_bytes(content)
    return seen


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_damaged_folders_stop_the_step_that_reads_them(
    tmp_path: Path, world_once: Path, record: Callable[..., None]
) -> None:
    site = make_site(tmp_path / "site")
    copy_lake(world_once, site.root)
    site.steps.run("publish", judged(site.steps.run, str(DAYS[0])))
    run_id = judged(site.steps.run, str(DAYS[1]))
    release = next(site.root.glob(f"releases/{DAYS[0]}*")).name
    folders = [f"runs/{run_id}/{part}" for part in ("dataset", "teacher", "student", "evaluation")]
    rng = np.random.default_rng(6)
    named = damaged_and_named(site, [*folders, f"releases/{release}"], rng)
    for folder in ("student", "dataset"):
        spoilt = make_site(tmp_path / folder)
        copy_lake(site.root, spoilt.root)
        file = max(
            (spoilt.root / "runs" / run_id / folder).iterdir(), key=lambda p: p.stat().st_size
        )
        flip(file, rng)
        outcome = spoilt.steps.start("publish", run_id).wait()
        assert outcome.error == "ProvenanceError", outcome
        assert file.name in outcome.message
        assert site.store.read_pointer("releases/current.json") == spoilt.store.read_pointer(
            "releases/current.json"
        )
    record(
        "a damaged file of a dataset, model, evaluation or release",
        "every file of each folder: one bit turned over, cut in half, emptied, removed",
        named,
        "nothing was used: every damage was named, and publishing from damaged folders left the "
        "current release in place",
    )


def damaged_and_named(site: Site, folders: list[str], rng: np.random.Generator) -> int:
    """Damage every file of some folders in four ways; how often that was named."""
    named = 0
    for folder in folders:
        whole = site.root / folder
        aside = site.folder / "whole"
        shutil.copytree(whole, aside)
        for file in sorted(path for path in whole.rglob("*") if path.is_file()):
            for damage in (cut, empty, gone, lambda path: flip(path, rng)):
                damage(file)
                with pytest.raises(ProvenanceError, match=Path(folder).name):
                    site.store.fetch(folder)
                named += 1
                shutil.copy2(aside / file.relative_to(whole), file)
        shutil.rmtree(aside)
    return named
