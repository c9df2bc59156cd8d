"""A lake that is new, one that exists, and one whose disk is missing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import LakeUnavailableError, ReleaseError
from pipeline.storage.presence import (
    create_lake,
    lake_exists,
    missing_lake_errors,
    refuse_missing_lake,
)


def test_an_empty_folder_is_no_lake(tmp_path: Path) -> None:
    assert not lake_exists(str(tmp_path / "lake"))
    assert not lake_exists(str(tmp_path))
    create_lake(str(tmp_path / "lake"), seen_before=False)
    assert lake_exists(str(tmp_path / "lake"))
    assert lake_exists("s3://bucket/lake")


def test_a_missing_lake_is_refused_once_it_was_seen(tmp_path: Path) -> None:
    root = str(tmp_path / "lake")
    refuse_missing_lake(root, seen_before=False)
    with pytest.raises(LakeUnavailableError, match="disappeared"):
        refuse_missing_lake(root, seen_before=True)
    Path(root).mkdir()
    with pytest.raises(LakeUnavailableError, match=f"mkdir {root}/tables"):
        refuse_missing_lake(root, seen_before=False)


def test_concurrent_creators_of_a_lake_all_find_it(tmp_path: Path) -> None:
    """Several threads create each of many lakes at the same moment."""

    def start(root: str, together: threading.Barrier) -> None:
        together.wait()
        create_lake(root, seen_before=False)

    with ThreadPoolExecutor(4) as pool:
        for number in range(200):
            root, together = str(tmp_path / f"lake{number}"), threading.Barrier(4)
            list(pool.map(start, [root] * 4, [together] * 4))
            assert [path.name for path in Path(root).iterdir()] == ["tables"]
    assert len(list(tmp_path.iterdir())) == 200


def test_a_missing_folder_above_the_lake_is_named(tmp_path: Path) -> None:
    with pytest.raises(LakeUnavailableError, match=f"mkdir -p {tmp_path}/disk"):
        create_lake(str(tmp_path / "disk" / "lake"), seen_before=False)
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize("error", [ReleaseError("unreadable"), FileNotFoundError("metrics.json")])
def test_an_error_in_a_lake_that_disappeared_says_so(tmp_path: Path, error: Exception) -> None:
    gone = tmp_path / "gone"
    with (
        pytest.raises(LakeUnavailableError, match=f"The lake is missing.*{gone}"),
        missing_lake_errors(str(gone)),
    ):
        raise error


def test_an_error_in_a_lake_that_exists_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="damaged"), missing_lake_errors(str(tmp_path.parent)):
        raise ReleaseError("damaged")
