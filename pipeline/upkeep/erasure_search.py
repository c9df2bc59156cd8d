"""Searches every file of a lake for erased data, for `debcm verify-erased ID`.

The lake keeps only hashes of what was erased, in table `erasures`. So the search hashes what it
reads and compares: every value and word as an id, every 64-digit hexadecimal word as the hash of a
file.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import html
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

ID_KINDS = ("video", "music", "uploader")

_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# A word ends at what can surround an id: parts of a path, the number of a segment, punctuation.
_WORD = re.compile(r"[^\s\"'<>,;:/#=(){}\[\]]+")
# A picture embedded in a page.
_DATA_URL = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]*")
_TABLES_FOLDER = "tables/"


class FindingKind(StrEnum):
    """What the search has found."""

    ID = "id"
    """The erased id itself."""
    ITEM = "item"
    """The id of a video of the erased uploader."""
    CONTENT = "content"
    """The content hash of an erased file."""
    UNKNOWN = "unknown"
    """The file is damaged, so it could contain anything."""


@dataclass(frozen=True)
class Finding:
    """A place in the lake that still has erased data.

    Attributes:
        file: path below the lake's root.
        place: column of a Parquet file, "file" if it is damaged, "text" for any other file.
        what: what was found there.
        old_version: whether the file is part of a table's log or only of its old versions; upkeep
            removes it after `[lake] keep_versions_days`.
    """

    file: str
    place: str
    what: FindingKind
    old_version: bool


@dataclass(frozen=True)
class SearchTerms:
    """What to search for.

    Attributes:
        name: the erased id, in plain text.
        items: `id_hash` of the other ids that were erased because of this id.
        content: `content_key` of the erased files.
    """

    name: str
    items: frozenset[str]
    content: frozenset[str]

    def in_text(self, text: str) -> set[FindingKind]:
        """Return which kinds of these terms a text contains."""
        found = {FindingKind.ID} if mentions_id(self.name, text) else set()
        if self.content and any(content_key(h) in self.content for h in _HASH.findall(text)):
            found.add(FindingKind.CONTENT)
        if self.items and mentions_hashed_id(self.items, text):
            found.add(FindingKind.ITEM)
        return found


def content_key(content_hash: str) -> str:
    """Return the hash of a content hash for table `erasures`: it recognises the file only."""
    return hashlib.sha256(f"content:{content_hash}".encode()).hexdigest()


def mentions_id(name: str, text: str) -> bool:
    """Return whether a text contains an id as a whole word, not as part of a longer id."""
    start = text.find(name)
    while start >= 0:
        end = start + len(name)
        if not (_continues_id(text[start - 1 : start]) or _continues_id(text[end : end + 1])):
            return True
        start = text.find(name, start + 1)
    return False


def mentions_hashed_id(hashes: Collection[str], text: str) -> bool:
    """Return whether a text, one of its words or of its file names is an id with a given hash."""
    words = {text, *_WORD.findall(text)}
    stems = {word.rpartition(".")[0] for word in words} | words
    return any(id_hash(kind, word) in hashes for word in stems for kind in ID_KINDS)


def page_text(text: str) -> str:
    """Return the text of an HTML page, with entities resolved and embedded pictures removed."""
    return html.unescape(_DATA_URL.sub("", text))


def _continues_id(character: str) -> bool:
    return character.isalnum() or character in {"_", "-"}


@dataclass(frozen=True)
class ErasureRecord:
    """What the lake has recorded about the deletion of an id.

    Attributes:
        requested: landing day of the newest deletion request; None: there was none.
        erased_at: start of the newest erasure; None: nothing of this id was erased.
    """

    requested: dt.date | None
    erased_at: dt.datetime | None


def read_erasure_record(lake: Lake, name: str) -> ErasureRecord:
    """Return the record of an id: of its own erasure, or of its erasure with its uploader."""
    hashes = [id_hash(kind, name) for kind in ID_KINDS]
    requests = lake.read("deletions", pl.col("id_hash").is_in(hashes))
    requested, erased = requests["dt"].max(), _erasures(lake, hashes)["erased_at"].max()
    assert requested is None or isinstance(requested, dt.date)
    assert erased is None or isinstance(erased, dt.datetime)
    return ErasureRecord(requested, erased)


def _erasures(lake: Lake, hashes: list[str]) -> pl.DataFrame:
    """Return the erasures that were requested for an id, and those of the id as an item."""
    own = pl.col("request_hash").is_in(hashes) | pl.col("item_hash").is_in(hashes)
    return lake.read("erasures", own)


def search_terms(lake: Lake, name: str) -> SearchTerms:
    """Return what to search for after the erasure of an id, of any kind."""
    requests = [id_hash(kind, name) for kind in ID_KINDS]
    mine = _erasures(lake, requests)
    # The id itself is searched in plain text. Its hash would only find it a second time.
    items = set(mine["item_hash"]) - set(requests)
    return SearchTerms(name, frozenset(items), frozenset(mine["content_key"].drop_nulls()))


def find_traces(lake: Lake, store: Store, name: str) -> list[Finding]:
    """Search the lake for an id, for the ids of its items and for their content hashes.

    Args:
        lake: the tables.
        store: every file of the lake.
        name: id of a video, track or uploader, in plain text.
    """
    terms = search_terms(lake, name)
    live = _live_files(lake)
    findings = []
    for file, stream in store.files():
        old = file.startswith(_TABLES_FOLDER) and file not in live
        for place, found in _search_file(file, stream, terms):
            findings += [Finding(file, place, what, old) for what in sorted(found)]
    log.info("searched the lake for %s: %d findings", name, len(findings))
    return findings


def _live_files(lake: Lake) -> set[str]:
    live = set()
    for table in TABLES:
        delta = lake.delta(table)
        if delta is not None:
            adds = pa.table(delta.get_add_actions(flatten=True))
            live |= {f"{_TABLES_FOLDER}{table}/{path}" for path in adds["path"].to_pylist()}
    return live


def _search_file(
    file: str, stream: pa.NativeFile, terms: SearchTerms
) -> Iterator[tuple[str, set[FindingKind]]]:
    if file.endswith(".parquet"):
        try:
            yield from _search_parquet(pq.ParquetFile(stream), terms)
        except (pa.ArrowException, OSError) as error:
            log.warning("%s is damaged and cannot be searched: %s", file, error)
            yield "file", {FindingKind.UNKNOWN}
        return
    text = stream.read().decode("utf-8", errors="replace")
    strings: Iterable[str] = [page_text(text)]
    if file.endswith(".json"):
        try:
            # One document, or one per line as in a Delta log.
            strings = list(_strings(_documents(text)))
        except ValueError:
            log.warning("%s is not valid JSON; searching it as text", file)
    found: set[FindingKind] = set()
    found.update(*(terms.in_text(string) for string in strings))
    if found:
        yield "text", found


def _search_parquet(
    file: pq.ParquetFile, terms: SearchTerms
) -> Iterator[tuple[str, set[FindingKind]]]:
    found: dict[str, set[FindingKind]] = {}
    for batch in file.iter_batches(batch_size=65_536):
        for column, array in zip(batch.schema.names, batch.columns, strict=True):
            for string in _values(array):
                for text in _strings(string) if string.startswith("{") else [string]:
                    found.setdefault(column, set()).update(terms.in_text(text))
    yield from ((column, kinds) for column, kinds in found.items() if kinds)


def _values(array: pa.Array) -> Iterator[str]:
    """Yield the distinct texts in an array of any type, including its nested arrays."""
    kind = array.type
    if isinstance(array, pa.StructArray):
        for child in array.flatten():
            yield from _values(child)
    elif isinstance(array, pa.MapArray):
        yield from _values(array.keys)
        yield from _values(array.items)
    elif isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        yield from _values(array.flatten())
    elif pa.types.is_dictionary(kind):
        yield from _values(array.dictionary)
    elif (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    ):
        yield from (value for value in array.unique().to_pylist() if value)


def _documents(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line]


def _strings(document: object) -> Iterator[str]:
    """Yield every string in a JSON document, including keys and documents inside strings."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from _strings(value)
    elif isinstance(document, list):
        for value in document:
            yield from _strings(value)
    elif isinstance(document, str):
        if document.startswith("{"):
            try:
                yield from _strings(json.loads(document))
            except ValueError:
                yield document
        else:
            yield document
