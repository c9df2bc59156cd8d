"""Releases are listed, compared, rolled back, promoted and retired."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from pipeline.context import Context
from pipeline.errors import PUBLISH_FIRST, ProvenanceError, ReleaseError
from pipeline.publishing import publish
from pipeline.publishing.history import (
    diff,
    list_releases,
    promote,
    retire,
    rollback,
    verify_release,
)
from pipeline.releases.current import (
    POINTER,
    make_current,
    read_current,
)
from pipeline.storage.folder import CHECKSUMS
from pipeline.storage.store import Store


def write_history(store, releases: list[tuple[str, str]]) -> None:
    """A pointer with the given (release, day) promotions, newest first, and empty folders."""
    for name, _ in releases:
        if not store.exists(f"releases/{name}"):
            with store.writing(f"releases/{name}") as folder:
                (folder / "content").write_text(name)
    document = {
        "release_id": releases[0][0],
        "promotions": [
            {"release_id": name, "at": f"{day}T03:00:00+00:00", "why": "published"}
            for name, day in releases
        ],
    }
    found = store.read_pointer(POINTER)
    assert store.replace_pointer(POINTER, json.dumps(document), found[1] if found else None)


def test_the_list_says_which_is_current_and_why(published, next_run, publishing) -> None:
    run_id = next_run(published)
    publishing(published, run_id)
    newest, oldest = list_releases(published.store)
    assert (newest.release_id, newest.current) == (run_id, True)
    assert (oldest.release_id, oldest.current) == (published.run_id, False)
    assert oldest.why == "published"
    assert oldest.music == 120
    assert oldest.measure == "recall@10"
    assert oldest.promoted_at.startswith(dt.datetime.now(dt.UTC).strftime("%Y-%m"))


def test_each_rollback_goes_back_one_release(published, next_run, publishing) -> None:
    second, third = next_run(published, days=1), next_run(published, days=2)
    publishing(published, second)
    publishing(published, third)
    assert rollback(published.settings, published.store) == second
    assert read_current(published.store).release_id == second
    assert rollback(published.settings, published.store, "it hums") == published.run_id
    assert read_current(published.store).promotions[0].why == f"it hums (from {second})"
    with pytest.raises(ReleaseError, match="no earlier release"):
        rollback(published.settings, published.store)
    promote(published.settings, published.store, third, "forward again")
    assert read_current(published.store).release_id == third


def test_a_damaged_release_is_not_rolled_back_to(published, next_run, publishing) -> None:
    run_id = next_run(published)
    publishing(published, run_id)
    card = published.store.fetch(f"releases/{published.run_id}") / "model_card.md"
    card.write_text("changed")
    with pytest.raises(ProvenanceError, match="model_card"):
        rollback(published.settings, published.store)
    assert read_current(published.store).release_id == run_id


def test_the_error_about_an_unknown_release_lists_the_kept_ones(published) -> None:
    for call in (
        lambda: verify_release(published.store, "2020-01-01-x"),
        lambda: promote(published.settings, published.store, "2020-01-01-x", "why"),
        lambda: diff(published.store, published.run_id, "2020-01-01-x"),
    ):
        with pytest.raises(ReleaseError, match=published.run_id):
            call()


def test_before_the_first_release_there_is_nothing_to_roll_back(toy) -> None:
    assert list_releases(toy.store) == []
    with pytest.raises(ReleaseError, match="no release has been published") as caught:
        rollback(toy.settings, toy.store)
    assert caught.value.remedy == PUBLISH_FIRST


def test_a_rollback_without_an_earlier_release_does_not_advise_a_rollback(toy) -> None:
    """Fault 8."""
    write_history(toy.store, [("2026-05-02-a", "2026-05-03")])
    with pytest.raises(ReleaseError, match="no earlier release is kept") as caught:
        rollback(toy.settings, toy.store)
    assert "rollback" not in caught.value.remedy
    assert "Readers keep this release" in str(caught.value)


def test_diff_of_a_release_with_itself_is_empty(published) -> None:
    found = diff(published.store, published.run_id, published.run_id)
    assert (found.music_added, found.music_removed) == (0, 0)
    assert found.music_drift == pytest.approx(0, abs=1e-6)
    assert found.same_recommendations == 1.0
    assert found.changed == {}
    assert all(a == b for a, b in found.metrics.values())


def test_diff_counts_items_moves_and_changed_inputs(published, next_run, publishing) -> None:
    def weaken(model) -> None:
        for weight in model.network.music.linear.parameters():
            weight.data.mul_(0.9)

    run_id = next_run(published, weaken)
    publishing(published, run_id)
    found = diff(published.store, published.run_id, run_id)
    assert (found.videos_added, found.videos_removed) == (0, 0)
    assert 0 < found.music_drift < 0.1
    assert 0.5 < found.same_recommendations < 1.0
    assert set(found.metrics) >= {"recall@10", "ndcg@10", "genre_kl", "coverage"}


def test_newest_current_and_monthly_champions_are_kept(toy) -> None:
    history = [
        ("2026-05-02-a", "2026-05-03"),
        ("2026-05-01-a", "2026-05-02"),
        ("2026-04-30-a", "2026-05-01"),
        ("2026-04-20-a", "2026-04-21"),
        ("2026-04-10-a", "2026-04-11"),
        ("2026-03-31-a", "2026-04-01"),
        ("2026-03-30-a", "2026-03-31"),
        ("2026-03-01-a", "2026-03-02"),
    ]
    write_history(toy.store, history)
    release = toy.settings.release.model_copy(update={"keep": 2})
    settings = toy.settings.model_copy(update={"release": release})
    expected = ["2026-03-01-a", "2026-03-31-a", "2026-04-10-a", "2026-04-30-a"]
    assert retire(settings, toy.store, dry_run=True) == expected
    assert len(toy.store.names("releases")) == 8
    assert retire(settings, toy.store) == expected
    assert toy.store.names("releases") == [
        "2026-03-30-a",
        "2026-04-20-a",
        "2026-05-01-a",
        "2026-05-02-a",
    ]
    assert retire(settings, toy.store) == []


def test_the_rollback_target_is_kept_after_a_rollback(toy) -> None:
    history = [
        ("2026-03-02-a", "2026-05-09"),
        ("2026-05-02-a", "2026-05-03"),
        ("2026-05-01-a", "2026-05-02"),
        ("2026-03-02-a", "2026-03-03"),
        ("2026-03-01-a", "2026-03-02"),
    ]
    write_history(toy.store, history)
    release = toy.settings.release.model_copy(update={"keep": 2, "keep_monthly": False})
    settings = toy.settings.model_copy(update={"release": release})
    assert retire(settings, toy.store) == []
    assert set(toy.store.names("releases")) == {name for name, _ in history}


def test_a_release_that_was_never_current_is_retired_by_its_age(toy) -> None:
    write_history(toy.store, [("2026-05-02-a", "2026-05-03"), ("2026-05-01-a", "2026-05-02")])
    for name in ("never", "now"):
        with toy.store.writing(f"releases/2026-01-01-{name}"):
            pass
    killed = Path(toy.store.root) / "releases" / "2026-01-01-never"
    for path in (killed / CHECKSUMS, killed):
        os.utime(path, (1, 1))
    # The other may be about to become current.
    release = toy.settings.release.model_copy(update={"keep": 2})
    assert retire(toy.settings.model_copy(update={"release": release}), toy.store) == [
        "2026-01-01-never"
    ]


def test_a_concurrently_promoted_release_is_not_retired(toy, monkeypatch) -> None:
    """A promotion between the choice and its record."""
    names = [f"2026-05-0{day}-a" for day in range(1, 6)]
    write_history(toy.store, [(name, name[:10]) for name in reversed(names)])
    release = toy.settings.release.model_copy(update={"keep": 1, "keep_monthly": False})
    settings = toy.settings.model_copy(update={"release": release})
    replace, promoted = Store.replace_pointer, []

    def overtaken(store, *arguments):
        if not promoted:
            promoted.append(names[0])
            assert make_current(Store(toy.settings.lake), names[0], "by hand", lambda _: None)
        return replace(store, *arguments)

    monkeypatch.setattr(Store, "replace_pointer", overtaken)
    assert retire(settings, toy.store) == names[1:4]
    assert read_current(toy.store).release_id == names[0]
    assert toy.store.names("releases") == [names[0], names[4]]


def test_a_concurrently_retired_release_is_not_promoted(toy, monkeypatch) -> None:
    names = [f"2026-05-0{day}-a" for day in range(1, 6)]
    write_history(toy.store, [(name, name[:10]) for name in reversed(names)])
    release = toy.settings.release.model_copy(update={"keep": 1, "keep_monthly": False})
    settings = toy.settings.model_copy(update={"release": release})
    monkeypatch.setattr(
        "pipeline.publishing.history.verify_folder", lambda _: retire(settings, toy.store)
    )
    with pytest.raises(ReleaseError, match=f"removed this release.*{names[0]}"):
        promote(toy.settings, toy.store, names[0], "by hand")
    assert read_current(toy.store).release_id == names[4]
    monkeypatch.undo()
    for name in names[:3]:
        with pytest.raises(ReleaseError, match=f"expired.*kept releases: {names[3]}, {names[4]}"):
            promote(toy.settings, toy.store, name, "by hand")


def test_rollback_fails_if_another_release_becomes_current_meanwhile(toy, monkeypatch) -> None:
    names = [f"2026-05-0{day}-a" for day in range(1, 4)]
    write_history(toy.store, [(name, name[:10]) for name in reversed(names[:2])])

    def published_meanwhile(_: object) -> None:
        with toy.store.writing(f"releases/{names[2]}"):
            pass
        make_current(toy.store, names[2], "published", lambda _: None)

    monkeypatch.setattr("pipeline.publishing.history.verify_folder", published_meanwhile)
    with pytest.raises(ReleaseError, match=f"{names[2]} became current meanwhile"):
        rollback(toy.settings, toy.store)
    assert read_current(toy.store).release_id == names[2]


def test_the_error_about_a_replaced_release_names_its_new_revision(toy) -> None:
    write_history(toy.store, [("2026-05-02-b.2", "2026-05-03"), ("2026-05-01-a", "2026-05-02")])
    with pytest.raises(ReleaseError, match=r"replaced this release by 2026-05-02-b\.2"):
        promote(toy.settings, toy.store, "2026-05-02-b", "by hand")


def test_a_retired_run_is_not_published_again(toy) -> None:
    write_history(toy.store, [("2026-05-02-b", "2026-05-03"), (toy.run_id, "2026-05-02")])
    toy.store.remove(f"releases/{toy.run_id}")
    with pytest.raises(ReleaseError, match="expired"):
        publish.run(Context(toy.settings), toy.run_id)
