"""Which errors of a task are retried.

Fault 5 of the on-call list: errors that pass inside Airflow failed at once.
"""

from __future__ import annotations

import inspect
import json

import httpx
import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import (
    AirflowRuntimeError,
    ErrorType,
    TaskDeferralError,
)
from airflow.sdk.execution_time.comms import ErrorResponse

from pipeline import errors
from pipeline.orchestration.dag_helpers import RETRY_POLICY


def decide(error: BaseException) -> RetryAction:
    return RETRY_POLICY.evaluate(error, 1, 3).action


def ours(base: type[errors.PipelineError]) -> list[type[errors.PipelineError]]:
    found = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, base) and kind is not base
    ]
    assert len(found) > 3
    return found


@pytest.mark.parametrize(
    "error",
    [
        AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR)),
        TaskDeferralError("Trigger failure"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("no answer"),
        ConnectionError("refused"),
        TimeoutError("no answer"),
        OSError(5, "Input/output error"),
        RuntimeError("CUDA out of memory"),
        MemoryError(),
        json.JSONDecodeError("Expecting value", "", 0),
        *(kind("it passes") for kind in ours(errors.Transient)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_can_pass_are_retried(error: BaseException) -> None:
    assert decide(error) in {RetryAction.RETRY, RetryAction.DEFAULT}


@pytest.mark.parametrize(
    "error",
    [
        TypeError("a bug"),
        AttributeError("a bug"),
        KeyError("a bug"),
        IndexError("a bug"),
        NameError("a bug"),
        ModuleNotFoundError("a bug"),
        AssertionError("a bug"),
        ValueError("a bug"),
        ZeroDivisionError("a bug"),
        *(kind("it stays") for kind in ours(errors.Permanent)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_permanent_errors_and_errors_of_the_program_fail_at_once(error: BaseException) -> None:
    assert decide(error) is RetryAction.FAIL
