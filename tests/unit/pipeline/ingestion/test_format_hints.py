"""Errors say which other format or spelling a manifest has, and what to do."""

from __future__ import annotations

import pytest

from pipeline.ingestion.format_hints import other_format, other_spelling, wrong_first_line

COLUMNS = ("music_id", "genre")


@pytest.mark.parametrize(
    ("head", "suffix", "text"),
    [
        ("music_id,genre\n".encode("utf-16-le"), ".csv", "UTF-16"),
        ("music_id,genre\n".encode("utf-32"), ".csv", "UTF-32"),
        (b"PK\x03\x04rest", ".csv", "Excel workbook"),
        (b"PAR1rest", ".csv", "name it .parquet"),
        (b"PARErest", ".parquet", "encrypted"),
        (b"BZh9", ".jsonl", "bzip2"),
    ],
)
def test_other_formats_are_recognised_by_their_first_bytes(
    head: bytes, suffix: str, text: str
) -> None:
    assert text in str(other_format(head, suffix))


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (b"music_id,genre\n", ".csv"),
        (b"\xef\xbb\xbfmusic_id", ".csv"),
        (b"a", ".csv"),
        (b"\0" * 64, ".csv"),
        (b"", ".csv"),
        (b"", ".parquet"),
        (b"PAR1", ".parquet"),
        ("{北の風}".encode(), ".jsonl"),
    ],
)
def test_accepted_and_unknown_content_gives_no_hint(head: bytes, suffix: str) -> None:
    assert other_format(head, suffix) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("  \r\n", "first line is blank"),
        ('"sep=;"\n', "`sep=` line"),
        ("SEP=,\n", "`sep=` line"),
        ('{"music_id": 1}\n', "name the file .jsonl"),
        ("\0\0\0", "NUL bytes"),
        ('"Music_ID"|"genre"\r\n', "separated by '|'"),
        ("music_id\tgenre", "separated by tabs"),
    ],
)
def test_wrong_first_lines_are_recognised(line: str, text: str) -> None:
    assert text in str(wrong_first_line(line, COLUMNS))


@pytest.mark.parametrize("line", ["music_id,genre\n", "m1,rock\n", "m1;rock\n", "separate,sep=\n"])
def test_other_first_lines_give_no_hint(line: str) -> None:
    assert wrong_first_line(line, COLUMNS) is None


def test_only_case_and_spaces_are_another_spelling() -> None:
    assert other_spelling(["Music_ID", "genre"], COLUMNS) is not None
    assert other_spelling([" genre"], COLUMNS) is not None
    assert other_spelling(["music_id", "genre", "MUSIC"], COLUMNS) is None
