"""A sink serves one complete release, whichever step of a publication fails."""

from __future__ import annotations

import pytest

from pipeline.context import Context
from pipeline.publishing import publish
from pipeline.publishing.history import rollback
from pipeline.publishing.sinks import following
from pipeline.publishing.sinks.base import SinkError
from pipeline.releases.current import read_current
from pipeline.upkeep import erasure


def test_a_sink_is_updated_by_publish_rollback_and_erasure(
    published, next_run, sink, pass_gate
) -> None:
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    assert sink.shown == toy.run_id, "a sink that was added later catches up"
    run_id = next_run(toy)
    pass_gate(toy, run_id)
    publish.run(Context(toy.settings), run_id)
    assert sink.shown == run_id
    rollback(toy.settings, toy.store)
    assert sink.shown == toy.run_id
    toy.request_deletions("video", "v0003")
    erasure.run(Context(toy.settings))
    assert sink.shown == f"{toy.run_id}.1"
    assert sink.staged == {f"{toy.run_id}.1"}


def test_a_failed_staging_changes_nothing(published, next_run, sink, pass_gate) -> None:
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    run_id = next_run(toy)
    pass_gate(toy, run_id)
    sink.fails = {"stage"}
    with pytest.raises(SinkError, match="connection refused"):
        publish.run(Context(toy.settings), run_id)
    assert read_current(toy.store).release_id == toy.run_id
    assert sink.shown == toy.run_id
    sink.fails = set()
    assert publish.run(Context(toy.settings), run_id).published
    assert (sink.shown, sink.staged) == (run_id, {run_id})


def test_after_a_failed_activation_the_sink_serves_the_old_release_until_repeated(
    published, next_run, sink, pass_gate
) -> None:
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    run_id = next_run(toy)
    pass_gate(toy, run_id)
    sink.fails = {"activate"}
    with pytest.raises(SinkError):
        publish.run(Context(toy.settings), run_id)
    assert read_current(toy.store).release_id == run_id
    assert sink.shown == toy.run_id
    sink.fails = set()
    assert not publish.run(Context(toy.settings), run_id).published
    assert sink.shown == run_id


def test_an_unavailable_sink_delays_only_its_own_erasure(published, sink) -> None:
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    toy.request_deletions("video", "v0003")
    sink.fails = {"stage"}
    with pytest.raises(SinkError):
        erasure.run(Context(toy.settings))
    assert toy.lake.read("videos").filter(video_id="v0003").is_empty()
    assert toy.store.children("runs") == []
    assert read_current(toy.store).release_id == f"{toy.run_id}.1"
    sink.fails = set()
    erasure.run(Context(toy.settings))
    assert sink.staged == {f"{toy.run_id}.1"}


def test_a_sink_serves_the_current_release_after_a_concurrent_rollback(
    published, next_run, sink, monkeypatch, pass_gate
) -> None:
    """A rollback happens while the publisher activates its release in the sink."""
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    run_id = next_run(toy)
    pass_gate(toy, run_id)
    activate, met = sink.activate, []

    def overtaken(release_id: str) -> None:
        if not met:
            met.append(rollback(toy.settings, toy.store))
        sink.staged.add(release_id)
        activate(release_id)

    monkeypatch.setattr(sink, "activate", overtaken)
    publish.run(Context(toy.settings), run_id)
    assert met == [toy.run_id]
    assert read_current(toy.store).release_id == sink.shown == toy.run_id


def test_without_settings_no_sink_is_opened(published) -> None:
    assert following.open_sinks(published.settings.release) == []
