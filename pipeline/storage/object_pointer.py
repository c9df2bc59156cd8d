"""Pointer files in object storage: read with their ETag, replaced by a conditional put."""

from __future__ import annotations

import os
from typing import Any

from pipeline.errors import Permanent
from pipeline.storage.storage_errors import as_pipeline_error


class MissingExtraError(Permanent):
    """A package of an optional extra is needed and not installed."""

    remedy = "Install the extra that the message names, for instance `pip install -e .[s3]`."


def read(base: str, name: str, options: dict[str, str]) -> tuple[str, str] | None:
    """Text and ETag of an object, or None where there is none.

    Args:
        base: "bucket/prefix".
        name: path below it.
        options: `[lake] storage_options`.

    Raises:
        DiskFullError: the storage refuses.
        LakeUnavailableError: it does not answer.
    """
    client, errors = _client(options)
    bucket, key = _address(base, name)
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read().decode(), str(answer["ETag"])
    except errors.ClientError as error:
        if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
            return None
        raise as_pipeline_error(error, f"s3://{bucket}/{key}") from error
    except errors.BotoCoreError as error:
        raise as_pipeline_error(error, f"s3://{bucket}/{key}") from error


def replace(base: str, name: str, text: str, expected: str | None, options: dict[str, str]) -> bool:
    """Put an object if its ETag is still the expected one (None: if there is none).

    Returns:
        False where another writer was first.

    Raises:
        DiskFullError: the storage refuses.
        LakeUnavailableError: it does not answer.
    """
    client, errors = _client(options)
    bucket, key = _address(base, name)
    condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
    try:
        client.put_object(Bucket=bucket, Key=key, Body=text.encode(), **condition)
    except errors.ClientError as error:
        # 404: the object that was to be replaced is gone; 409: two conditional puts met.
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
        raise MissingExtraError("a lake on s3:// needs boto3 (extra s3)") from error
    endpoint = options.get("aws_endpoint_url") or os.environ.get("AWS_ENDPOINT_URL")
    region = options.get("aws_region") or os.environ.get("AWS_REGION")
    return boto3.client("s3", endpoint_url=endpoint, region_name=region), exceptions


def _address(base: str, name: str) -> tuple[str, str]:
    bucket, _, prefix = base.partition("/")
    return bucket, f"{prefix}/{name}".lstrip("/")
