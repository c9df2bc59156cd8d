"""What can go wrong in a step, and what the reader of the log should do about it.

Every error of ours is either `Transient` (the same call can succeed later: Airflow retries
it) or `Permanent` (it cannot: Airflow fails the task at once). docs/reasons.md is generated
from the docstrings and remedies below, so an error class without a remedy does not exist.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class PipelineError(Exception):
    """An error with a place and a remedy.

    Args:
        what: what is wrong, in one sentence.
        where: the file, table, row or field concerned.
    """

    remedy: ClassVar[str] = ""

    def __init__(self, what: str, *, where: str = "") -> None:
        self.what = what
        self.where = where
        place = f"{where}: " if where else ""
        super().__init__(f"{place}{what}. {self.remedy}".strip())


class Transient(PipelineError):
    """The same call can succeed later; tasks retry it."""

    remedy = "Retried by itself; look again if every retry fails."


class Permanent(PipelineError):
    """The same call fails again until somebody changes something; tasks fail at once."""

    remedy = "Change what the message names, then clear the task."


class DayNotReadyError(Transient):
    """A landing day has no `_SUCCESS` file yet."""

    remedy = "Ask the delivering system for the day; the task runs once `_SUCCESS` is there."


class LakeUnavailableError(Transient):
    """The lake's storage did not answer, is gone, or throttled the request."""

    remedy = "Check the storage's health and credentials ([lake] in the settings)."


class WriteConflictError(Transient):
    """Other writers kept committing to the same table until our attempts were used up."""

    remedy = "Retried by itself; nothing was written."


class DiskFullError(Permanent):
    """The lake or the work folder has no room, or may not be read or written."""

    remedy = "Free space or mend the permissions (`debcm upkeep` shows sizes), then clear the task."


class NoDayError(Permanent):
    """A run of `media_features` was started by hand, and not told which day."""

    remedy = """Trigger it with the day: --conf '{"day": "YYYY-MM-DD"}', or the field in the UI."""


class ManifestError(Permanent):
    """A landing manifest cannot be read as a whole: missing column, wrong format, two files."""

    remedy = "Have the day delivered again with the columns of docs/tables.md, then clear the task."


class LandingAccessError(Permanent):
    """A folder or manifest of the landing may not be read."""

    remedy = "Mend owner and mode of what the message names, then clear the task."


class LandingUnavailableError(Transient):
    """The storage of the landing folder did not answer."""

    remedy = "Check the disk or share that the message names; the task is retried by itself."


class TooManyRejectsError(Permanent):
    """More of the day was rejected than `[landing] reject_share` allows."""

    remedy = (
        "`debcm quarantine --day DAY` lists the rows; have the day delivered again, or raise the "
        "share if they are right, and clear the task."
    )


class NotIngestedError(Permanent):
    """A day has not been ingested, or was refused."""

    remedy = "`debcm ingest --day DAY` first; it says what is wrong with a day that was refused."


class LostRowsError(Permanent):
    """A row of the catalogue has neither features nor a place in quarantine."""

    remedy = "Run `debcm extract --day DAY` again; if it persists, this is a bug: report it."


class SchemaError(Permanent):
    """Rows about to be written, or just read, break the field table in pipeline/lake/schemas.py."""

    remedy = "The message names table, field and row; nothing was written."


class ProvenanceError(Permanent):
    """An input is not the one it is said to be: a hash, version or extractor does not match."""

    remedy = "Do not use the file; restore it, or run the step that makes it again."


class NotEnoughDataError(Permanent):
    """There are too few rows to train or to judge a model."""

    remedy = "Ingest more days; the current release stays in place."


class ReleaseError(Permanent):
    """A release is missing, incomplete or fails its verification."""

    remedy = "`debcm release list` shows the good ones; `debcm release rollback` puts one back."


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

    @property
    def meaning(self) -> str:
        """One sentence for the runbook: what it means and what to do."""
        return _ROW_REASON_MEANINGS[self]


_ROW_REASON_MEANINGS: dict[RowReason, str] = {
    RowReason.INVALID_FIELD: (
        "A field is empty, of the wrong type or out of range; the detail names file, row and "
        "field. Have the row delivered again."
    ),
    RowReason.UNREADABLE_ROW: (
        "The row is not valid CSV or JSON on one line; the detail names file and row. Have it "
        "delivered again."
    ),
    RowReason.DUPLICATE_ID: (
        "The id stands twice in one manifest; the first row counts. Harmless if the rows are equal."
    ),
    RowReason.ID_CONFLICT: (
        "The id belongs to other content of an earlier day, which stands. The platform must give "
        "changed content a new id, or request deletion of the old one first; a file that came "
        "broken is mended in its own landing day."
    ),
    RowReason.REPEATED: (
        "The same id with the same content came on an earlier day, which stands. Nothing to do; "
        "it does not count towards the reject share."
    ),
    RowReason.UNKNOWN_MUSIC: (
        "The video names a track that no manifest up to its day has delivered. Deliver the track, "
        "then run the day again."
    ),
    RowReason.OUTSIDE_LANDING: (
        "The media path leaves the landing day (absolute, `..` or a symbolic link): treat it as an "
        "attack or a bug of the delivering system."
    ),
    RowReason.FUTURE_UPLOAD: (
        "uploaded_at lies after the end of the landing day plus `[landing] clock_tolerance_hours`: "
        "a wrong clock. Point-in-time preference would be wrong if it were let in."
    ),
    RowReason.DELETED: (
        "Its deletion was requested earlier; it may not come back under the same id or uploader."
    ),
}
