"""Pointers in object storage: of concurrent writers, one wins."""

from __future__ import annotations

import sys

import pytest

from pipeline.errors import LakeUnavailableError
from pipeline.storage import object_pointer
from pipeline.storage.store import Store


@pytest.mark.services
def test_a_pointer_is_replaced_only_at_the_expected_version(s3: Store) -> None:
    options = s3._options
    base = "lake/debcm"
    assert object_pointer.read(base, "current.json", options) is None
    assert not object_pointer.replace(base, "current.json", "a", '"0"', options)
    assert object_pointer.replace(base, "current.json", "a", None, options)
    assert not object_pointer.replace(base, "current.json", "b", None, options)
    found = object_pointer.read(base, "current.json", options)
    assert found is not None
    text, version = found
    assert text == "a"
    assert object_pointer.replace(base, "current.json", "b", version, options)
    assert not object_pointer.replace(base, "current.json", "c", version, options)


@pytest.mark.services
def test_a_storage_that_does_not_answer_is_transient(
    s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A port of this machine on which nothing listens.
    gone = s3._options | {"aws_endpoint_url": "http://127.0.0.1:9"}
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(LakeUnavailableError, match=r"s3://lake/debcm/current\.json"):
        object_pointer.read("lake/debcm", "current.json", gone)
    with pytest.raises(LakeUnavailableError):
        object_pointer.replace("lake/debcm", "current.json", "a", None, gone)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(object_pointer.MissingExtraError, match=r"boto3.*\n.*pip install"):
        object_pointer.read("lake", "current.json", {})
