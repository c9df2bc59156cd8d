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


def _like(pattern: str, otherwise: str) -> AfterValidator:
    """Text that a pattern matches as a whole; pydantic would answer with the pattern itself."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.DOTALL):
            raise ValueError(otherwise)
        return text

    return AfterValidator(check)


_PLACE = _like(r"(?!.*://).*|s3://[^/\s@]+(/\S*)?", "a folder or s3://bucket/prefix expected")
_WEB_ADDRESS = _like(r"|https?://\S+", "an address that begins with http:// or https:// expected")
_MAIL_ADDRESS = _like(r"[^@\s]+@[^@\s]+", "a mail address (name@host) expected")
# A night is named by the day before its tick: ticks must be a day apart.
_ONCE_A_DAY = _like(
    r"[0-5]?[0-9] ([01]?[0-9]|2[0-3]) \* \* \*",
    'once a day expected: "MINUTE HOUR * * *", for instance "30 2 * * *"',
)
_CONNECTION_STRING = _like(
    r"|.*\w\s*=.*|postgres(ql)?://.*",
    "a libpq connection string expected: host=... dbname=..., or a URL",
)

Share = Annotated[float, Field(ge=0, le=1)]
SomeShare = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, AfterValidator(_not_blank)]
Folder = Annotated[Path, AfterValidator(_folder)]
Place = Annotated[str, _PLACE]
WebAddress = Annotated[str, _WEB_ADDRESS]
MailAddress = Annotated[str, _MAIL_ADDRESS]
OnceADay = Annotated[str, _ONCE_A_DAY]
ConnectionString = Annotated[str, _CONNECTION_STRING]
