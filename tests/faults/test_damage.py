"""Damaged files raise an error that names them; they are never used."""

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
from tests.faults.fault_nights import run_to_gate
from tests.faults.fault_sites import DAYS, Site, make_site

TABLE = "visual_features"
Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def remove(path: Path) -> None:
    path.unlink()


def flip(path: Path, rng: np.random.Generator) -> None:
    """Flip one bit of a file."""
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
def intact_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a lake with one table: three commits, a checkpoint, a commit."""
    root = tmp_path_factory.mktemp("intact") / "lake"
    lake = Lake(LakeSettings(root=str(root)))
    for number in range(3):
        lake.add(TABLE, features(number))
    delta = lake.delta(TABLE)
    assert delta is not None
    delta.create_checkpoint()
    lake.add(TABLE, features(3))
    return root


# A log without its last entry is a valid older table, so removing an entry is not tested.
@pytest.mark.parametrize(
    ("what", "damage"),
    [
        *(
            (what, damage)
            for what in ("data", "checkpoint")
            for damage in (cut, empty, overwrite, remove)
        ),
        *(("log entry", damage) for damage in (cut, empty, overwrite)),
    ],
)
def test_reading_a_damaged_table_raises_an_error_that_names_it(
    tmp_path: Path, intact_lake: Path, what: str, damage: Damage
) -> None:
    root = copy_lake(intact_lake, tmp_path / "lake")
    damage(table_file(root, what))
    lake = Lake(LakeSettings(root=str(root)))
    with pytest.raises(ProvenanceError, match=TABLE):
        lake.read(TABLE)


def table_file(root: Path, what: str) -> Path:
    """Return the newest data file, log entry or checkpoint of the table."""
    table = root / "tables" / TABLE
    pattern = {
        "data": "extractor=*/*/*.parquet",
        "log entry": "_delta_log/*.json",
        "checkpoint": "_delta_log/*.checkpoint.parquet",
    }
    return max(table.glob(pattern[what]), key=lambda path: (path.stat().st_mtime_ns, path.name))


@pytest.mark.parametrize("text", ["", "{", '{"promotions": []}', "\x00\x00"])
def test_reading_a_damaged_pointer_raises_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    from pipeline.releases.current import read_current

    store = Store(LakeSettings(root=str(tmp_path / "lake")))
    assert store.replace_pointer("releases/current.json", text, None)
    with pytest.raises(ProvenanceError, match=r"releases/current\.json"):
        read_current(store)


def flip_in_data(lake: Lake, flips: int) -> Counter[str]:
    """Flip one bit of a table's largest file and read the table, many times; count the outcomes."""
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
def test_flipped_bits_in_tables_never_change_what_is_read(
    tmp_path: Path, record: Callable[..., None]
) -> None:
    """Large files consist mostly of numbers; a third of a small file is its footer."""
    seen: Counter[str] = Counter()
    for count, dim, flips in ((300, 1280, 100), (20, 16, 900)):
        lake = Lake(LakeSettings(root=str(tmp_path / str(count))))
        lake.add(TABLE, features(0, count=count // 2, dim=dim))
        seen += flip_in_data(lake, flips // 2)
        lake.add(TABLE, features(count, count=count // 2, dim=dim))
        lake.compact(TABLE)
        seen += flip_in_data(lake, flips // 2)
    assert seen.total() == 1000
    assert set(seen) == {"named", "harmless"}
    record(
        "one bit flipped in a table's Parquet file",
        "at random places of large and small files, written by merges and by compaction",
        seen.total(),
        f"no wrong data read: {seen['named']} reads raised an error that names the file; "
        f"{seen['harmless']} returned the correct rows",
    )


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_flipped_bits_in_logs_never_change_what_is_read(
    tmp_path: Path, record: Callable[..., None]
) -> None:
    """The log adds, replaces and removes files, first without a checkpoint, then with one."""
    lake = Lake(LakeSettings(root=str(tmp_path / "lake")))
    for number in range(4):
        lake.add(TABLE, features(3 * number, count=3))
    lake.upsert(TABLE, features(2, count=5))
    lake.delete(TABLE, f"content_hash = '{1:064x}'")
    rng = np.random.default_rng(8)
    entries = flip_in_log(lake, "*.json", 300, rng)
    lake.remove_old_versions(TABLE, 0)
    checkpoints = flip_in_log(lake, "*.checkpoint.parquet", 300, rng)
    assert set(entries) == {"named", "harmless"}
    # A panic of the library ends the step, so damaged data is not used either.
    assert set(checkpoints) <= {"named", "harmless", "PanicException"}
    record(
        "one bit flipped in a table's log",
        "at random places: 300 in its entries, 300 in a checkpoint",
        entries.total() + checkpoints.total(),
        f"no wrong data read: {entries['named']} and {checkpoints['named']} reads raised an error "
        f"that names the table; {entries['harmless']} and {checkpoints['harmless']} returned the "
        f"correct rows; {checkpoints['PanicException']} ended in an error of the library that "
        "does not name it",
    )


def flip_in_log(lake: Lake, pattern: str, flips: int, rng: np.random.Generator) -> Counter[str]:
    """Flip one bit of a file of the log and read the table, many times; count the outcomes."""

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
        except BaseException as error:  # a Rust panic is not an Exception
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
    site.steps.run("publish", run_to_gate(site.steps.run, str(DAYS[0])))
    run_id = run_to_gate(site.steps.run, str(DAYS[1]))
    release = next(site.root.glob(f"releases/{DAYS[0]}*")).name
    folders = [f"runs/{run_id}/{part}" for part in ("dataset", "teacher", "student", "evaluation")]
    rng = np.random.default_rng(6)
    named = damage_all_files(site, [*folders, f"releases/{release}"], rng)
    for folder in ("student", "dataset"):
        damaged = make_site(tmp_path / folder)
        copy_lake(site.root, damaged.root)
        file = max(
            (damaged.root / "runs" / run_id / folder).iterdir(), key=lambda p: p.stat().st_size
        )
        flip(file, rng)
        outcome = damaged.steps.start("publish", run_id).wait()
        assert outcome.error == "ProvenanceError", outcome
        assert file.name in outcome.message
        assert site.store.read_pointer("releases/current.json") == damaged.store.read_pointer(
            "releases/current.json"
        )
    record(
        "damaged file of a dataset, model, evaluation or release",
        "every file of each folder: one bit flipped, cut in half, emptied, removed",
        named,
        "no damaged file used: every read raised an error that names the folder, and publishing "
        "from a damaged folder left the current release unchanged",
    )


def damage_all_files(site: Site, folders: list[str], rng: np.random.Generator) -> int:
    """Damage every file of some folders in four ways; return how many errors named the folder."""
    named = 0
    for folder in folders:
        intact = site.root / folder
        backup = site.folder / "backup"
        shutil.copytree(intact, backup)
        for file in sorted(path for path in intact.rglob("*") if path.is_file()):
            for damage in (cut, empty, remove, lambda path: flip(path, rng)):
                damage(file)
                with pytest.raises(ProvenanceError, match=Path(folder).name):
                    site.store.fetch(folder)
                named += 1
                shutil.copy2(backup / file.relative_to(intact), file)
        shutil.rmtree(backup)
    return named
