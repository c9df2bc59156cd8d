"""No error, setting or file of the lake shows the password of the PostgreSQL sink."""

from __future__ import annotations

import dataclasses
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.context import Context
from pipeline.publishing.sinks import postgres
from pipeline.publishing.sinks.base import SinkError
from pipeline.reporting import report
from pipeline.settings.load import Settings


@pytest.mark.parametrize(
    "connection",
    [
        "postgresql//u:hunter2@h/d",
        "postgresql://u:hunter2@127.0.0.1:1/d",
        "postgresql://u:hun%zzter2@h/d",
        "postgresql://u:hunter2/x@127.0.0.1:1/d",
        "postgresql://u:x@hunter2.invalid/d",
        "host=127.0.0.1 port=1 password=hunter2",
        "host=127.0.0.1 password='hunter2",
    ],
)
def test_no_error_shows_a_password(connection: str) -> None:
    pytest.importorskip("psycopg2")
    with pytest.raises(SinkError, match="postgres") as caught:
        postgres.PostgresSink(connection).current()
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert "zzter2" not in shown
    # Not even to what looks deeper than a traceback does.
    assert caught.value.__context__ is None


def test_no_setting_shows_a_password() -> None:
    settings = Settings(release={"postgres": "host=h password=hunter2"})
    assert "hunter2" not in repr(settings)
    for name, value in (
        ("postgres", ["hunter2"]),
        ("postgres", "hunter2"),
        ("lancedb", "s3://k:hunter2@b"),
    ):
        with pytest.raises(ValidationError) as caught:
            Settings(release={name: value})
        assert "hunter2" not in str(caught.value)


def test_no_file_of_a_lake_holds_a_secret(
    published, next_run, publishing, sink, with_release
) -> None:
    """Release, model card, report and tables contain only fields that were chosen for them."""
    alerts = published.settings.alerts.model_copy(update={"webhook": "https://h/hunter2"})
    toy = with_release(published, postgres="host=h password=hunter2")
    settings = toy.settings.model_copy(update={"alerts": alerts})
    toy = dataclasses.replace(toy, settings=settings)
    run_id = next_run(toy)
    publishing(toy, run_id)
    report.run(Context(toy.settings), run_id)
    files = [path for path in Path(toy.store.root).rglob("*") if path.is_file()]
    assert len(files) > 50
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
