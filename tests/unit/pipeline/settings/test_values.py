"""Types of setting values: what each accepts, and what its message says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.settings import values


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [
        (values.Text, ["a"]),
        (values.Folder, ["landing", "/srv/landing"]),
        (values.FolderOrS3, ["", "lake", "/srv/lake", "s3://bucket", "s3://bucket/prefix"]),
        (
            values.WebAddress,
            ["", "http://a", "https://chat.example.org/hook?x=1", "http://[::1]:80/"],
        ),
        (values.MailAddress, ["night@example.org", "debcm@localhost"]),
        (values.DailyCron, ["0 2 * * *", "59 23 * * *", "07 09 * * *"]),
        (values.ConnectionString, ["", "dbname=music", "host = a", "postgresql://db/music"]),
        (values.Share, [0, 1]),
        (values.ProperShare, [0.01, 0.99]),
    ],
)
def test_valid_values_are_accepted_unchanged(kind: Any, accepted: list[Any]) -> None:
    for value in accepted:
        expected = Path(value) if kind is values.Folder else value
        assert TypeAdapter(kind).validate_python(value) == expected


@pytest.mark.parametrize(
    ("kind", "rejected", "message"),
    [
        (values.Text, ["", "  "], "must not be empty"),
        (values.Folder, ["", "."], "a folder expected"),
        (values.FolderOrS3, ["gs://a", "s3://", "s3://u:p@a", "s3://a b"], "s3://bucket/prefix"),
        (values.WebAddress, ["ftp://a", "a", "http://a b"], "a URL that begins with"),
        # Fault 7: each of these was accepted, and then raised an error when an alert was sent.
        (values.WebAddress, ["http://ä/", "http://a/ä", "http://[/x", "http://a]/"], "xn--"),
        (values.WebAddress, ["http://", "http:///x", "http://a:x/", "http://a:99999/"], "a URL"),
        (values.WebAddress, ["http://a..b/", f"http://{'a' * 64}/", "http://u:p@a/"], "user name"),
        (values.MailAddress, ["night", "a b@c", "a@b, c@d"], "a mail address"),
        (values.DailyCron, ["0 * * * *", "60 2 * * *", "0 24 * * *", "@daily"], "a daily cron"),
        (values.ConnectionString, ["music", "mysql://db/music"], "a libpq connection string"),
        (values.Share, [-0.1, 1.1], "equal to"),
        (values.ProperShare, [0, 1], "than"),
    ],
)
def test_a_message_says_what_is_expected(kind: Any, rejected: list[Any], message: str) -> None:
    for value in rejected:
        with pytest.raises(ValidationError, match=message):
            TypeAdapter(kind).validate_python(value)


def test_the_default_groups_have_every_genre_once() -> None:
    genres = [genre for members in values.GENRE_GROUPS.values() for genre in members]
    assert len(genres) == len(set(genres))
