"""Defines the errors of the pipeline: what happened, where, and what to do about it.

Every error is either `Transient` (the same call can succeed later, so Airflow retries the task) or
`Permanent` (it cannot, so Airflow fails the task at once). docs/reasons.md is generated from the
docstrings and remedies below.
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import NamedTuple


class PipelineError(Exception):
    """An error that says what happened, where, and what to do.

    Its text has two lines: `summary`, which must be readable where a log cuts long lines, and the
    remedy.

    Args:
        what: what happened, one sentence without its full stop.
        where: the file, table, row, field or task concerned.
        remedy: what to do, if that of the class does not help here.
    """

    remedy: str = ""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy or type(self).remedy
        super().__init__(f"{self.summary.removesuffix('.')}.\n{self.remedy}".rstrip())

    def __reduce__(self) -> tuple[partial[PipelineError], tuple[str]]:
        """Copy the parts: the text alone would become `what`, with the remedy twice."""
        return partial(type(self), where=self.where, remedy=self.remedy), (self.what,)

    @property
    def summary(self) -> str:
        """What happened and where, on one line, without the remedy."""
        return f"{self.what} ({self.where})" if self.where else self.what


class Transient(PipelineError):
    """The same call can succeed later; tasks retry it."""

    remedy = "The task is retried automatically. If every retry fails, read the task's log."


class Permanent(PipelineError):
    """The same call fails until somebody changes something; tasks fail at once."""

    remedy = "Fix what the message names, then clear the task."


class DayNotReadyError(Transient):
    """A landing day has no `_SUCCESS` file yet."""

    remedy = (
        "Ask the delivering system to complete the day, with `_SUCCESS` written last. The next "
        "night then processes it; to do it at once, trigger `media_features` with the day, or run "
        "`debcm run --day DAY`."
    )


class LakeUnavailableError(Transient):
    """The lake's storage did not answer, throttled the request, or is not mounted."""

    remedy = "Check the storage's health, mount and credentials (`[lake]` in the settings)."


class WriteConflictError(Transient):
    """Other writers committed to the same table until `[lake] commit_attempts` was used up."""

    remedy = "Nothing was written. The task is retried automatically."


class DiskFullError(Permanent):
    """The disk of the lake or work folder is full, or a quota or file size limit is reached."""

    remedy = (
        "Free space at the path that the message names, or raise its quota or limit; then clear "
        "the task. `[release] keep` and `[lake] keep_versions_days` decide what upkeep removes."
    )


class LakeAccessError(Permanent):
    """The lake or the work folder is read-only, or its permissions forbid reading or writing."""

    remedy = (
        "Mount it for writing, or fix owner and mode of the path that the message names (in object "
        "storage: the rights of the credentials); then clear the task."
    )


class NoDayError(Permanent):
    """A run of `media_features` was started by hand without a day."""

    remedy = """Trigger it with the day: --conf '{"day": "YYYY-MM-DD"}', or the field in the UI."""


class ManifestError(Permanent):
    """A manifest of a landing day cannot be read: missing column, wrong format, or two files."""

    remedy = "Have the day delivered again with the columns of docs/tables.md, then clear the task."


class LandingAccessError(Permanent):
    """The operating system does not permit reading a folder or manifest of the landing area."""

    remedy = "Fix owner and mode of the path that the message names, then clear the task."


class LandingUnavailableError(Transient):
    """The storage of the landing area did not answer."""

    remedy = "Check the disk or share that the message names. The task is retried automatically."


class TooManyRejectsError(Permanent):
    """More of a day's rows were rejected than `[landing] reject_share` allows."""

    remedy = (
        "List the rows with `debcm quarantine --day DAY`; docs/reasons.md says for each reason "
        "what helps, for example a fixed mode of a folder, or another delivery. Raise the share if "
        "the rejections are correct. Then clear the task."
    )


class NotIngestedError(Permanent):
    """A day has not been ingested, or its ingest was refused."""

    remedy = "Run `debcm ingest --day DAY`; if it refuses the day, it says why."


class FutureDayError(Permanent):
    """The day given with `--as-of` is after the newest ingested day."""

    remedy = "Give that day or an earlier one, or leave out `--as-of`."


class LostRowsError(Permanent):
    """A row of the catalogue has neither features nor a row in quarantine."""

    remedy = "Run `debcm extract --day DAY` again. If that does not help, report a bug."


class SchemaError(Permanent):
    """Rows do not match the schema of their table in pipeline/lake/schemas.py."""

    remedy = "Nothing was written. The message names table, field and row; report a bug."


class ProvenanceError(Permanent):
    """An input is missing, damaged, or not the expected one: hash, version or extractor differ."""

    remedy = (
        "Do not use the file. Restore it from a copy. If a step made it, you can instead remove "
        "its folder below runs/ and clear that step: a step keeps a folder that exists."
    )


class NotEnoughDataError(Permanent):
    """There are too few rows to train or to evaluate a model."""

    remedy = "Ingest more days; the current release stays in place."


class ReleaseError(Permanent):
    """A release is missing, incomplete or fails its verification."""

    remedy = (
        "List the releases with `debcm release list`; `debcm release rollback` restores an earlier "
        "one."
    )


# Remedy of a `ReleaseError` if there is no release at all.
PUBLISH_FIRST = (
    "Run `debcm retrain`: it publishes a release if the gate accepts the model, or says why not."
)


class RowReason(StrEnum):
    """Why a manifest row was rejected before its file was opened.

    Together with `features.errors.Reason` this is the closed set of quarantine reasons.
    """

    INVALID_FIELD = "invalid_field"
    UNREADABLE_ROW = "unreadable_row"
    DUPLICATE_ID = "duplicate_id"
    ID_CONFLICT = "id_conflict"
    REPEATED = "repeated"
    UNKNOWN_MUSIC = "unknown_music"
    OUTSIDE_LANDING = "outside_landing"
    FUTURE_UPLOAD = "future_upload"
    DELETED = "deleted"
    UNMATCHED_DELETION = "unmatched_deletion"

    @property
    def meaning(self) -> str:
        """One sentence that says what was wrong."""
        return _ROW_GUIDANCE[self].meaning

    @property
    def remedy(self) -> str:
        """One or two sentences that say what to do."""
        return _ROW_GUIDANCE[self].remedy


class _Guidance(NamedTuple):
    meaning: str
    remedy: str


_ROW_GUIDANCE = {
    RowReason.INVALID_FIELD: _Guidance(
        "A field is empty, of the wrong type or out of range, or an id has white space at an end.",
        "The detail names file, row and field. Have the row delivered again.",
    ),
    RowReason.UNREADABLE_ROW: _Guidance(
        "The row is not valid CSV or JSON on one line.",
        "The detail names file and row. Have the row delivered again.",
    ),
    RowReason.DUPLICATE_ID: _Guidance(
        "The id is in several rows of one manifest; only the first row is accepted.",
        "Nothing if the rows are equal; otherwise have the right row delivered again.",
    ),
    RowReason.ID_CONFLICT: _Guidance(
        "An earlier day delivered the same id with other content, and keeps it.",
        "The platform must give changed content a new id, or first request the deletion of the old "
        "one. Replace a broken file in its own landing day.",
    ),
    RowReason.REPEATED: _Guidance(
        "An earlier day delivered the same id with the same content, and keeps it.",
        "Nothing; the row does not count towards the reject share.",
    ),
    RowReason.UNKNOWN_MUSIC: _Guidance(
        "The video names a track that no day up to its own has delivered.",
        "Have the track delivered, then run the day again.",
    ),
    RowReason.OUTSIDE_LANDING: _Guidance(
        "The media path leaves the landing day: it is absolute, or has `..` or a symbolic link.",
        "Treat it as an attack or as a bug of the delivering system.",
    ),
    RowReason.FUTURE_UPLOAD: _Guidance(
        "uploaded_at is after the end of the landing day plus `[landing] clock_tolerance_hours`.",
        "Fix the clock of the delivering system and have the row delivered again. With a wrong "
        "time, point-in-time preferences would be wrong.",
    ),
    RowReason.DELETED: _Guidance(
        "The deletion of this id, or of its uploader, was requested.",
        "Nothing: a deleted id or uploader stays out of the lake. The row does not count towards "
        "the reject share.",
    ),
    RowReason.UNMATCHED_DELETION: _Guidance(
        "A deletion request names an id that is neither in the lake nor in the day's manifests.",
        "Check the id with whoever requested the deletion. The request is recorded: the lake does "
        "not accept the id later. It does not count towards the reject share.",
    ),
}
