"""The file system of a lake, by its root."""

from __future__ import annotations

import pyarrow.fs as pafs
import pytest

from pipeline.storage.filesystem import filesystem


def test_a_path_is_a_local_folder() -> None:
    storage, base = filesystem("/srv/lake", {})
    assert isinstance(storage, pafs.LocalFileSystem)
    assert base == "/srv/lake"


@pytest.mark.parametrize("by_option", [True, False])
def test_an_s3_url_is_a_bucket_at_the_configured_endpoint(
    monkeypatch: pytest.MonkeyPatch, by_option: bool
) -> None:
    options = {"aws_endpoint_url": "http://127.0.0.1:9000", "aws_region": "eu-north-1"}
    if not by_option:
        for name, value in options.items():
            monkeypatch.setenv(name.upper(), value)
    storage, base = filesystem("s3://lake/debcm", options if by_option else {})
    assert isinstance(storage, pafs.S3FileSystem)
    assert storage.region == "eu-north-1"
    assert base == "lake/debcm"
    expected = pafs.S3FileSystem(
        endpoint_override="http://127.0.0.1:9000", region="eu-north-1", scheme="http"
    )
    assert storage == expected
