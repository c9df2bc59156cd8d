"""Details of the quarantine do not contain ids whose deletion was requested."""

from __future__ import annotations

import pytest

from pipeline.ingestion.hidden_ids import hide_deleted_ids, is_deleted, row_place
from pipeline.lake.catalog import id_hash
from pipeline.lake.codes import IdKind

DELETED = {
    id_hash(IdKind.VIDEO, "v9"),
    id_hash(IdKind.UPLOADER, "7"),
    id_hash(IdKind.MUSIC, "my song"),
}


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ("videos.csv row 7: field id: 'v9'", "videos.csv row 7: field id: (deleted)"),
        ("videos.csv row 1, found 'my song'", "videos.csv row 1, found (deleted)"),
        ("videos.csv row 1: 'media/v9.mp4'", "videos.csv row 1: 'media/(deleted)'"),
        ("videos.csv row 1: first in row 7", "videos.csv row 1: first in row (deleted)"),
        ("videos.csv row 1: v91 and av9", "videos.csv row 1: v91 and av9"),
        ("v9", "(deleted)"),
        ("", ""),
    ],
)
def test_only_whole_ids_are_hidden_and_never_the_place(detail: str, expected: str) -> None:
    assert hide_deleted_ids(DELETED, detail) == expected
    assert hide_deleted_ids(set(), detail) == detail


def test_the_place_is_file_and_row() -> None:
    assert row_place("videos.csv row 12, field id: empty") == "videos.csv row 12"
    assert row_place("no place") == ""


def test_an_id_is_deleted_for_its_kind_only() -> None:
    assert is_deleted(DELETED, "video", "v9")
    assert not is_deleted(DELETED, IdKind.MUSIC, "v9")
    assert not is_deleted(DELETED, IdKind.UPLOADER, None)
