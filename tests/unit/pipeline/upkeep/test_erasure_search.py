"""`debcm verify-erased` finds ids in every kind of file, and only as whole words."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from pipeline.context import Context
from pipeline.upkeep import erasure, erasure_search
from pipeline.upkeep.erasure_search import find_traces, mentions_id
from tests.helpers.trained_lake import DAY


def test_the_search_reads_every_kind_of_file(published, tmp_path: Path) -> None:
    toy = published
    toy.request_deletions("video", "v0003")
    content = toy.lake.read("videos").filter(video_id="v0003")["content_hash"][0]
    erasure.run(Context(toy.settings))
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "v0003") == []
    root = Path(toy.settings.lake.root)
    planted = {
        "report.html": ('<a href="clips/v0003.mp4">', "id"),
        "card.md": ("| v0003 |", "id"),
        "nested.json": ('{"stats": "{\\"minValues\\": {\\"id\\": \\"v0003\\"}}"}', "id"),
        "lines.json": ('{"a": 1}\n{"b": ["v0003#2"]}', "id"),
        "hash.bin": (f"\x00\x01{content}\x02", "content"),
    }
    for name, (text, _) in planted.items():
        (root / name).write_text(text)
    pl.DataFrame({"x": [{"y": ["a", content]}]}).write_parquet(root / "nested.parquet")
    found = {(f.file, f.what) for f in find_traces(toy.lake, toy.store, "v0003")}
    expected = {(name, what) for name, (_, what) in planted.items()}
    assert found == {*expected, ("nested.parquet", "content")}


def test_the_record_covers_requested_ids_their_items_and_quarantined_ids(published) -> None:
    """Fault 13."""
    toy = published
    content = "ab" * 32
    toy.quarantine(("video", "bad1", "videos.csv row 1: truncated", content))
    item = toy.lake.read("videos").filter(uploader_id="u05")["video_id"][0]
    toy.request_deletions("uploader", "u05", "never")
    toy.request_deletions("video", "bad1")
    nothing = erasure_search.ErasureRecord(None, None)
    assert erasure_search.read_erasure_record(toy.lake, item) == nothing
    erasure.run(Context(toy.settings))
    for name, is_requested in (("u05", True), (item, False), ("bad1", True)):
        record = erasure_search.read_erasure_record(toy.lake, name)
        assert (record.erased_at is not None, record.requested is not None) == (True, is_requested)
    record = erasure_search.read_erasure_record(toy.lake, "never")
    assert (record.erased_at, record.requested) == (None, DAY)
    assert erasure_search.read_erasure_record(toy.lake, "typo") == nothing
    # The content of a quarantined file is searched too.
    assert erasure_search.search_terms(toy.lake, "bad1").in_text(content) == {"content"}


def test_the_search_continues_after_damaged_and_removed_files(
    published, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = published
    root = Path(toy.settings.lake.root)
    (root / "broken.json").write_text('{"id": "v0003"')
    (root / "broken.parquet").write_bytes(b"PAR1v0003")
    for name in ("a.txt", "b.txt"):
        (root / name).write_text("v0003")
    search = erasure_search._search_file

    def overtaken(file: str, stream: pa.NativeFile, terms: erasure_search.SearchTerms):
        (root / "b.txt").unlink(missing_ok=True)
        return search(file, stream, terms)

    monkeypatch.setattr(erasure_search, "_search_file", overtaken)
    found = {(f.file, f.what) for f in find_traces(toy.lake, toy.store, "v0003")}
    top = {(file, what) for file, what in found if "/" not in file}
    assert top == {("broken.json", "id"), ("broken.parquet", "unknown"), ("a.txt", "id")}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("v1", "v1", True),
        ("v1", "a v1.", True),
        ("v1", "media/v1.mp4", True),
        ("v1", "v1#3", True),
        ("v1", "v10 v1", True),
        ("v1", "v10", False),
        ("v1", "av1", False),
        ("v1", "v1-b", False),
        ("v1", "é_v1", False),
        ("a b", "x a b y", True),
    ],
)
def test_an_id_is_found_as_a_whole_word_only(name: str, text: str, found: bool) -> None:
    assert mentions_id(name, text) is found
