"""Reads pointer files in object storage, and replaces them by conditional puts."""

from __future__ import annotations

import os
from typing import Any

from pipeline.errors import Permanent
from pipeline.storage.storage_errors import as_pipeline_error


class MissingExtraError(Permanent):
    """A package of an optional extra is not installed."""

    remedy = "Install the extra that the message names, for example `pip install -e .[s3]`."


def read(base: str, name: str, options: dict[str, str]) -> tuple[str, str] | None:
    """Read the text and the ETag of an object; return None if there is none.

    Args:
        base: "bucket/prefix".
        name: path of the object below `base`.
        options: `[lake] storage_options`.

    Raises:
        LakeAccessError: the storage denies access.
        LakeUnavailableError: the storage does not answer.
    """
    client, errors = _client(options)
    bucket, key = _address(base, name)
    try:
        response = client.get_object(Bucket=bucket, Key=key)
        return response["Body"].read().decode(), str(response["ETag"])
    except errors.ClientError as error:
        if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
            return None
        raise as_pipeline_error(error, f"s3://{bucket}/{key}") from error
    except errors.BotoCoreError as error:
        raise as_pipeline_error(error, f"s3://{bucket}/{key}") from error


def replace(base: str, name: str, text: str, expected: str | None, options: dict[str, str]) -> bool:
    """Put an object if its ETag is still the expected one.

    Args:
        base: "bucket/prefix".
        name: path of the object below `base`.
        text: new content.
        expected: ETag; None if there must be no object.
        options: `[lake] storage_options`.

    Returns:
        False if another writer was first; then nothing changed.

    Raises:
        LakeAccessError: the storage denies access.
        LakeUnavailableError: the storage does not answer.
    """
    client, errors = _client(options)
    bucket, key = _address(base, name)
    condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
    try:
        client.put_object(Bucket=bucket, Key=key, Body=text.encode(), **condition)
    except errors.ClientError as error:
        # 404: the expected object is gone; 409: two conditional puts at once; 412: another ETag.
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in {404, 409, 412}:
            return False
        raise as_pipeline_error(error, f"s3://{bucket}/{key}") from error
    except errors.BotoCoreError as error:
        raise as_pipeline_error(error, f"s3://{bucket}/{key}") from error
    return True


def _client(options: dict[str, str]) -> tuple[Any, Any]:
    try:
        import boto3
        from botocore import exceptions
    except ImportError as error:
        raise MissingExtraError("A lake on s3:// needs boto3, of the extra s3") from error
    endpoint = options.get("aws_endpoint_url") or os.environ.get("AWS_ENDPOINT_URL")
    region = options.get("aws_region") or os.environ.get("AWS_REGION")
    return boto3.client("s3", endpoint_url=endpoint, region_name=region), exceptions


def _address(base: str, name: str) -> tuple[str, str]:
    bucket, _, prefix = base.partition("/")
    return bucket, f"{prefix}/{name}".lstrip("/")
