"""Kinds of values that settings take, each with the check that says what was expected instead.

A message never repeats the value: a webhook's URL or a connection string is a secret.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

# The genres that music services name most, in the six groups of the paper's data set.
GENRE_GROUPS = {
    "pop": ["pop", "indie pop", "synthpop", "k-pop", "j-pop", "dance pop"],
    "rock": ["rock", "metal", "punk", "industrial rock", "alternative", "indie rock"],
    "electronic": ["electronic", "techno", "house", "trance", "synth", "edm", "drum and bass"],
    "hiphop": ["hiphop", "hip hop", "hip-hop", "rap", "r&b", "rnb", "soul", "funk"],
    "classical": ["classical", "orchestral", "ambient", "soundtrack", "piano", "instrumental"],
    "folk": ["folk", "world", "country", "acoustic", "jazz", "blues", "latin", "reggae"],
}


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("empty; leave the setting out for its default")
    return text


def _folder(path: Path) -> Path:
    # An empty variable would name the working folder.
    if path == Path():
        raise ValueError("a folder expected, found an empty path or the working folder itself")
    return path


def _place(text: str) -> str:
    if "://" in text and not re.fullmatch(r"s3://[^/\s@]+(/\S*)?", text):
        raise ValueError("a folder or s3://bucket/prefix expected")
    return text


def _web_address(text: str) -> str:
    if text and not re.fullmatch(r"https?://\S+", text):
        raise ValueError("an address that begins with http:// or https:// expected")
    return text


def _mail_address(text: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", text):
        raise ValueError("a mail address (name@host) expected")
    return text


def _once_a_day(cron: str) -> str:
    # A night is named by the day before its tick: ticks must be a day apart.
    found = re.fullmatch(r"(\d{1,2}) (\d{1,2}) \* \* \*", cron)
    if found is None or int(found[1]) > 59 or int(found[2]) > 23:
        raise ValueError('once a day expected: "MINUTE HOUR * * *", for instance "30 2 * * *"')
    return cron


def _connection_string(text: str) -> str:
    if text and not re.search(r"\w\s*=|^postgres(ql)?://", text):
        raise ValueError("a libpq connection string expected: host=... dbname=..., or a URL")
    return text


Share = Annotated[float, Field(ge=0, le=1)]
SomeShare = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, AfterValidator(_not_blank)]
Folder = Annotated[Path, AfterValidator(_folder)]
Place = Annotated[str, AfterValidator(_place)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
OnceADay = Annotated[str, AfterValidator(_once_a_day)]
ConnectionString = Annotated[str, AfterValidator(_connection_string)]
