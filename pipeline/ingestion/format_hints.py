"""Recognises manifests in a format or spelling that is not accepted, for a helpful error.

No text contains a line of the file: it may be a row with ids, which a message must not contain.
"""

from __future__ import annotations

import re
from collections.abc import Collection

# Enough bytes for every signature and for a few characters of UTF-16 without a byte order mark.
HEAD_BYTES = 64

_PARQUET = b"PAR1"
# First bytes of a file -> what it is, and what to do.
_SIGNATURES = {
    b"\xff\xfe\x00\x00": "UTF-32; write it as UTF-8",
    b"\x00\x00\xfe\xff": "UTF-32; write it as UTF-8",
    b"\xff\xfe": "UTF-16; write it as UTF-8",
    b"\xfe\xff": "UTF-16; write it as UTF-8",
    b"\x1f\x8b": "compressed with gzip; deliver it uncompressed",
    b"BZh": "compressed with bzip2; deliver it uncompressed",
    b"\xfd7zXZ\x00": "compressed with xz; deliver it uncompressed",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard; deliver it uncompressed",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; deliver CSV, JSON lines or Parquet",
    b"PARE": "encrypted Parquet; deliver it unencrypted",
}
_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'"}


def other_format(head: bytes, suffix: str) -> str | None:
    """Return what a file is and what to do, if its first bytes are of another format.

    Args:
        head: the first `HEAD_BYTES` bytes.
        suffix: the suffix of its name: ".parquet", ".csv" or ".jsonl".
    """
    for signature, text in _SIGNATURES.items():
        if head.startswith(signature):
            return text
    if suffix == ".parquet":
        if head and not head.startswith(_PARQUET):
            return "not Parquet: it does not begin with PAR1; write Parquet, or correct its name"
        return None
    if head.startswith(_PARQUET):
        return "Parquet; name it .parquet"
    # Text of ASCII characters in UTF-16 without a byte order mark.
    for zeros, others in ((head[1::2], head[::2]), (head[::2], head[1::2])):
        if len(zeros) > 1 and not any(zeros) and all(others):
            return "UTF-16; write it as UTF-8"
    return None


def wrong_first_line(line: str, columns: Collection[str]) -> str | None:
    """Return what is wrong with the first line of a CSV file, if it is recognised.

    Args:
        line: the first line.
        columns: names of the manifest's columns.
    """
    if not line.strip():
        return "The first line is blank; the header must be the first line"
    if re.match(r'"?sep=.', line, re.IGNORECASE):
        return "The first line is a `sep=` line for Excel; remove it"
    if line.lstrip().startswith("{"):
        return "The first line is JSON; name the file .jsonl"
    if "\0" in line:
        return "The first line has NUL bytes; write the file as UTF-8 text"
    for separator, name in _SEPARATORS.items():
        cells = line.split(separator)
        if len(cells) > 1 and {cell.strip(' "\r\n').lower() for cell in cells} & set(columns):
            return f"The columns are separated by {name}; separate them by commas"
    return None


def other_spelling(names: Collection[str], columns: Collection[str]) -> str | None:
    """Return what to do if names differ from column names in upper case or white space only."""
    wrong = {name for name in names if name not in columns and name.strip().lower() in columns}
    return "write column names in lower case and without spaces" if wrong else None
