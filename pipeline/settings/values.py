"""Defines the types of setting values; each check says what value it expects.

A message never repeats the value, because a webhook URL or a connection string is a secret.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

# Frequent genres of music services, in the six groups of the paper's data set.
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
        raise ValueError("must not be empty; leave the setting out to use its default")
    return text


def _folder(path: Path) -> Path:
    # An empty environment variable would mean the working folder.
    if path == Path():
        raise ValueError("a folder expected, but the path is empty or the working folder itself")
    return path


def _web_address(text: str) -> str:
    if text and not _is_web_address(text):
        raise ValueError(
            "a URL that begins with http:// or https:// expected, without user name and in ASCII: "
            "write other characters of the host as xn--..., and those after it as %XX"
        )
    return text


def _is_web_address(text: str) -> bool:
    """Whether urllib can open the URL; it raises a different error for each of these faults."""
    if not re.fullmatch(r"https?://[!-~]+", text):
        return False
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        # As a connection does; it fails on empty and on too long parts of a host name.
        (host or "").encode("idna")
    except ValueError:
        return False
    return bool(host) and port != 0 and "@" not in parts.netloc


def _matching(pattern: str, message: str) -> AfterValidator:
    """Check the whole text; pydantic's own check would show the pattern instead of `message`."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.DOTALL):
            raise ValueError(message)
        return text

    return AfterValidator(check)


_FOLDER_OR_S3 = _matching(
    r"(?!.*://).*|s3://[^/\s@]+(/\S*)?", "a folder or s3://bucket/prefix expected"
)
_MAIL_ADDRESS = _matching(r"[^@\s]+@[^@\s]+", "a mail address (name@host) expected")
# A nightly run processes the day before its start, so runs must be one day apart.
_DAILY_CRON = _matching(
    r"[0-5]?[0-9] ([01]?[0-9]|2[0-3]) \* \* \*",
    'a daily cron expression expected: "MINUTE HOUR * * *", for example "30 2 * * *"',
)
_CONNECTION_STRING = _matching(
    r"|.*\w\s*=.*|postgres(ql)?://.*",
    "a libpq connection string expected: host=... dbname=..., or a URL",
)

Share = Annotated[float, Field(ge=0, le=1)]
ProperShare = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, AfterValidator(_not_blank)]
Folder = Annotated[Path, AfterValidator(_folder)]
FolderOrS3 = Annotated[str, _FOLDER_OR_S3]
WebAddress = Annotated[str, AfterValidator(_web_address)]
MailAddress = Annotated[str, _MAIL_ADDRESS]
DailyCron = Annotated[str, _DAILY_CRON]
ConnectionString = Annotated[str, _CONNECTION_STRING]
