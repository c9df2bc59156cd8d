"""Errors say what happened, where, and what to do; each is either transient or permanent."""

from __future__ import annotations

import pickle

import pytest

from features.errors import Reason
from pipeline import errors
from pipeline.errors import Permanent, PipelineError, RowReason, Transient

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PipelineError) and kind is not PipelineError
]


def test_the_first_line_says_what_happened_and_where_and_the_second_what_to_do() -> None:
    error = errors.ManifestError("The file has no header", where="dt=2026-03-01/videos.csv")
    assert error.summary == "The file has no header (dt=2026-03-01/videos.csv)"
    assert str(error) == f"{error.summary}.\n{errors.ManifestError.remedy}"


def test_a_message_without_a_place_has_no_brackets_and_one_full_stop() -> None:
    assert str(errors.NoDayError("There is no day.")).startswith("There is no day.\nTrigger ")


def test_an_error_can_have_a_remedy_of_its_own() -> None:
    """Fault 8: the remedy of the class does not help everywhere."""
    error = errors.ReleaseError("no release has been published", remedy=errors.PUBLISH_FIRST)
    assert str(error) == f"no release has been published.\n{errors.PUBLISH_FIRST}"
    assert error.remedy == errors.PUBLISH_FIRST
    assert errors.ReleaseError("damaged").remedy == errors.ReleaseError.remedy
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.summary, copy.remedy) == (str(error), error.summary, error.remedy)


def test_an_error_without_a_remedy_is_one_line() -> None:
    assert str(PipelineError("It failed")) == "It failed."


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_transient_or_permanent_and_has_a_remedy(kind: type[PipelineError]) -> None:
    assert issubclass(kind, Transient) is not issubclass(kind, Permanent)
    assert kind.remedy.endswith((".", "UI."))
    assert "\n" not in kind.remedy


def test_every_reason_has_a_meaning_and_a_remedy_and_codes_are_unique() -> None:
    for reason in RowReason:
        assert reason.meaning.endswith(".")
        assert reason.remedy.endswith(".")
    assert not set(RowReason) & {str(reason) for reason in Reason}
