"""Opens the file system of a lake: a local folder or S3."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pyarrow.fs as pafs


def filesystem(root: str, options: Mapping[str, str]) -> tuple[pafs.FileSystem, str]:
    """Open the file system of a lake.

    Args:
        root: local path, or s3://bucket/prefix.
        options: `[lake] storage_options`.

    Returns:
        The file system, and the path of the lake's root in it.
    """
    if "://" not in root:
        return pafs.LocalFileSystem(), root
    endpoint = options.get("aws_endpoint_url") or os.environ.get("AWS_ENDPOINT_URL")
    objects = pafs.S3FileSystem(
        region=options.get("aws_region") or os.environ.get("AWS_REGION"),
        endpoint_override=endpoint,
        scheme="http" if endpoint and endpoint.startswith("http://") else "https",
    )
    return objects, root.split("://", 1)[1]
