"""Search every file of a lake for what was erased: `debcm verify-erased ID`.

Nothing readable is kept of an erased item. Table `erasures` holds hashes, so the search hashes
what it finds: values and words of every text for ids, 64-digit words for content hashes.
"""

from __future__ import annotations

import hashlib
import html
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

KINDS = ("video", "music", "uploader")

_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# What separates an id from what is written around it: a path, a segment's number, a sentence.
_WORD = re.compile(r"[^\s\"'<>,;:/#=(){}\[\]]+")
_EMBEDDED = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]*")
_HOLDS_TABLES = "tables/"


@dataclass(frozen=True)
class Finding:
    """A place that still holds something erased.

    Attributes:
        file: path below the lake's root.
        place: column of a Parquet file, or "text".
        what: "id", "item" (an id of the erased uploader's videos), "content" (a file's hash) or
            "unknown" (the file is damaged, so that nobody knows what it holds).
        old_version: the file belongs to old versions of a table alone, or to its log, and goes
            with them (`[lake] keep_versions_days`).
    """

    file: str
    place: str
    what: str
    old_version: bool


@dataclass(frozen=True)
class Traces:
    """What to look for.

    Attributes:
        name: the id as it was.
        items: `id_hash` of the items erased by requests for this id.
        content: `content_key` of their files.
    """

    name: str
    items: frozenset[str]
    content: frozenset[str]

    def in_text(self, text: str) -> set[str]:
        """What of it a text holds: a subset of {"id", "item", "content"}."""
        found = {"id"} if mentions(self.name, text) else set()
        if self.content and any(content_key(h) in self.content for h in _HASH.findall(text)):
            found.add("content")
        if self.items and names_any(self.items, text):
            found.add("item")
        return found


def content_key(content_hash: str) -> str:
    """What table `erasures` keeps of a content hash: enough to recognise it, not to read it."""
    return hashlib.sha256(f"content:{content_hash}".encode()).hexdigest()


def mentions(name: str, text: str) -> bool:
    """Whether a text names an id: as a word, not as a part of a longer id."""
    start = text.find(name)
    while start >= 0:
        end = start + len(name)
        if not (_joins(text[start - 1 : start]) or _joins(text[end : end + 1])):
            return True
        start = text.find(name, start + 1)
    return False


def names_any(hashes: Collection[str], text: str) -> bool:
    """Whether a text is or has, as a word or as a file's name, an id of which this is the hash."""
    words = {text, *_WORD.findall(text)}
    stems = {word.rpartition(".")[0] for word in words} | words
    return any(id_hash(kind, word) in hashes for word in stems for kind in KINDS)


def visible(text: str) -> str:
    """A page's text with its entities resolved, and without the pictures embedded in it."""
    return html.unescape(_EMBEDDED.sub("", text))


def _joins(character: str) -> bool:
    return character.isalnum() or character in {"_", "-"}


def traces_of(lake: Lake, name: str) -> Traces:
    """What the erasures of an id, of whatever kind, have removed."""
    requests = [id_hash(kind, name) for kind in KINDS]
    erasures = lake.read("erasures")
    mine = erasures.filter(erasures["request_hash"].is_in(requests))
    # The id itself is looked for as it is; a hashed copy would only be found twice.
    items = set(mine["item_hash"]) - set(requests)
    return Traces(name, frozenset(items), frozenset(mine["content_key"].drop_nulls()))


def find_traces(lake: Lake, store: Store, name: str) -> list[Finding]:
    """Every place in the lake that still holds an id, its items' ids or their content hashes."""
    traces = traces_of(lake, name)
    live = _live_files(lake)
    findings = []
    for file, stream in store.files():
        old = file.startswith(_HOLDS_TABLES) and file not in live
        for place, found in _search(file, stream, traces):
            findings += [Finding(file, place, what, old) for what in sorted(found)]
    log.info("searched for %s: %d findings", name, len(findings))
    return findings


def _live_files(lake: Lake) -> set[str]:
    live = set()
    for table in TABLES:
        delta = lake.delta(table)
        if delta is not None:
            adds = pa.table(delta.get_add_actions(flatten=True))
            live |= {f"{_HOLDS_TABLES}{table}/{path}" for path in adds["path"].to_pylist()}
    return live


def _search(file: str, stream: pa.NativeFile, traces: Traces) -> Iterator[tuple[str, set[str]]]:
    if file.endswith(".parquet"):
        try:
            yield from _in_parquet(pq.ParquetFile(stream), traces)
        except (pa.ArrowException, OSError) as error:
            log.warning("%s cannot be searched: %s", file, error)
            yield "file", {"unknown"}
        return
    text = stream.read().decode("utf-8", errors="replace")
    strings: Iterable[str] = [visible(text)]
    if file.endswith(".json"):
        try:
            # One document, or a Delta log's one a line.
            strings = list(_strings(_documents(text)))
        except ValueError:
            log.warning("%s is not JSON: searched as text", file)
    found = set().union(*(traces.in_text(string) for string in strings))
    if found:
        yield "text", found


def _in_parquet(file: pq.ParquetFile, traces: Traces) -> Iterator[tuple[str, set[str]]]:
    found: dict[str, set[str]] = {}
    for batch in file.iter_batches(batch_size=65_536):
        for column, array in zip(batch.schema.names, batch.columns, strict=True):
            for string in _values(array):
                for text in _strings(string) if string.startswith("{") else [string]:
                    found.setdefault(column, set()).update(traces.in_text(text))
    yield from ((column, what) for column, what in found.items() if what)


def _values(array: pa.Array) -> Iterator[str]:
    """The distinct texts in an array of any type, nested ones included."""
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
    """Every string in a JSON document, keys and documents within strings included."""
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
