"""The pointer to the current release is changed by compare-and-swap, on a disk and on S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import (
    LakeUnavailableError,
    ProvenanceError,
    ReleaseError,
    WriteConflictError,
)
from pipeline.releases.current import (
    make_current,
    read_current,
    replace_release,
    retire_releases,
    revision_of,
    run_id_of,
)
from pipeline.settings.sections import LakeSettings
from pipeline.storage.store import Store

NAME = "releases/current.json"


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(LakeSettings(root=str(tmp_path / "lake")))


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.services)])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(request.param)


def test_a_pointer_is_created_and_replaced(store: Store) -> None:
    assert store.read_pointer(NAME) is None
    assert store.replace_pointer(NAME, "one", None)
    text, version = store.read_pointer(NAME)
    assert text == "one"
    assert store.replace_pointer(NAME, "two", version)
    assert store.read_pointer(NAME)[0] == "two"


def test_the_second_of_two_writers_changes_nothing(store: Store) -> None:
    assert store.replace_pointer(NAME, "one", None)
    version = store.read_pointer(NAME)[1]
    assert not store.replace_pointer(NAME, "mine", None)
    assert store.replace_pointer(NAME, "two", version)
    assert not store.replace_pointer(NAME, "mine", version)
    assert store.read_pointer(NAME)[0] == "two"


def test_a_pointer_that_vanished_is_not_written(store: Store) -> None:
    assert not store.replace_pointer(NAME, "mine", "some version")
    assert store.read_pointer(NAME) is None


def test_concurrent_promotions_are_all_kept(store: Store) -> None:
    names = [f"2026-03-{day:02d}-a" for day in range(1, 13)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: make_current(store, name, "x", lambda _: None), names))
    assert sorted(p.release_id for p in read_current(store).promotions) == names


def test_a_writer_that_is_never_first_gives_up(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "replace_pointer", lambda *_: False)
    with pytest.raises(WriteConflictError, match=r"current\.json"):
        make_current(local, "2026-03-01-a", "x", lambda _: None)


def test_promoting_the_current_release_changes_nothing(store: Store) -> None:
    assert make_current(store, "2026-03-01-a", "x", lambda _: None)
    assert not make_current(store, "2026-03-01-a", "again", lambda _: None)
    assert [p.why for p in read_current(store).promotions] == ["x"]


def test_no_file_is_left_beside_the_pointer(local: Store) -> None:
    make_current(local, "2026-03-01-a", "x", lambda _: None)
    assert [path.name for path in (Path(local.root) / "releases").iterdir()] == ["current.json"]


@pytest.mark.services
def test_an_unreachable_endpoint_is_a_transient_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    options = {
        "aws_endpoint_url": "http://127.0.0.1:9",
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    store = Store(LakeSettings(root="s3://lake/debcm", storage_options=options))
    with pytest.raises(LakeUnavailableError, match="s3://lake/debcm/releases"):
        store.read_pointer(NAME)
    with pytest.raises(LakeUnavailableError):
        store.replace_pointer(NAME, "one", None)


def test_release_ids_name_the_run_and_the_revision() -> None:
    assert (run_id_of("2026-03-03-ab"), revision_of("2026-03-03-ab")) == ("2026-03-03-ab", 0)
    assert (run_id_of("2026-03-03-ab.12"), revision_of("2026-03-03-ab.12")) == ("2026-03-03-ab", 12)


def test_a_revision_replaces_its_release_in_all_promotions(local: Store) -> None:
    for name in ("b", "a", "b"):
        make_current(local, name, f"made {name}", lambda _: None)
    replace_release(local, "b", "b.1")
    current = read_current(local)
    assert [p.release_id for p in current.promotions] == ["b.1", "a", "b.1"]
    assert [p.why for p in current.promotions] == ["made b", "made a", "made b"]
    assert current.retired == ("b",)
    with pytest.raises(ReleaseError, match="upkeep has removed this release"):
        make_current(local, "b", "x", lambda _: None)


def test_only_the_chosen_releases_are_retired(local: Store) -> None:
    assert retire_releases(local, lambda _: ["a"]) == []
    for name in ("a", "b"):
        make_current(local, name, "x", lambda _: None)
    assert retire_releases(local, lambda current: [current.promotions[1].release_id]) == ["a"]
    assert read_current(local).retired == ("a",)


@pytest.mark.parametrize("text", ['{"promotions": [{"release', "{}", "[]", '{"promotions": []}'])
def test_a_damaged_pointer_is_an_error_and_not_the_absence_of_releases(
    local: Store, text: str
) -> None:
    path = Path(local.root) / NAME
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ProvenanceError, match=r"current\.json"):
        read_current(local)
