"""The pointer to the current release: compared and swapped, on a disk and on S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import LakeUnavailableError, WriteConflictError
from pipeline.releases.current import make_current, read_current
from pipeline.settings.sections import LakeSettings
from pipeline.storage.store import Store

NAME = "releases/current.json"


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(LakeSettings(root=str(tmp_path / "lake")))


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.services)])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(request.param)


def test_it_is_absent_then_made_then_replaced(store: Store) -> None:
    assert store.read_pointer(NAME) is None
    assert store.replace_pointer(NAME, "one", None)
    text, version = store.read_pointer(NAME)
    assert text == "one"
    assert store.replace_pointer(NAME, "two", version)
    assert store.read_pointer(NAME)[0] == "two"


def test_who_comes_second_changes_nothing(store: Store) -> None:
    assert store.replace_pointer(NAME, "one", None)
    version = store.read_pointer(NAME)[1]
    assert not store.replace_pointer(NAME, "mine", None)
    assert store.replace_pointer(NAME, "two", version)
    assert not store.replace_pointer(NAME, "mine", version)
    assert store.read_pointer(NAME)[0] == "two"


def test_a_pointer_that_vanished_is_not_written(store: Store) -> None:
    assert not store.replace_pointer(NAME, "mine", "some version")
    assert store.read_pointer(NAME) is None


def test_of_many_at_once_every_promotion_is_kept(store: Store) -> None:
    names = [f"2026-03-{day:02d}-a" for day in range(1, 13)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: make_current(store, name, "x", lambda _: None), names))
    assert sorted(p.release_id for p in read_current(store).promotions) == names


def test_a_writer_that_never_wins_says_so(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "replace_pointer", lambda *_: False)
    with pytest.raises(WriteConflictError, match=r"current\.json"):
        make_current(local, "2026-03-01-a", "x", lambda _: None)


def test_making_the_current_one_current_is_no_promotion(store: Store) -> None:
    assert make_current(store, "2026-03-01-a", "x", lambda _: None)
    assert not make_current(store, "2026-03-01-a", "again", lambda _: None)
    assert [p.why for p in read_current(store).promotions] == ["x"]


def test_no_file_is_left_beside_the_pointer(local: Store) -> None:
    make_current(local, "2026-03-01-a", "x", lambda _: None)
    assert [path.name for path in (Path(local.root) / "releases").iterdir()] == ["current.json"]


@pytest.mark.services
def test_an_endpoint_that_is_away_is_a_passing_error(monkeypatch: pytest.MonkeyPatch) -> None:
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
