"""Reads the manifests of a landing day, and finds the days that need a run."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from features.errors import Reason
from pipeline.context import Context
from pipeline.errors import LandingAccessError, ManifestError, Permanent, TooManyRejectsError
from pipeline.ingestion.id_owners import EarlierOwners, find_earlier_owners
from pipeline.ingestion.landing_day import LandingDay, landing_days
from pipeline.ingestion.manifest import Manifest
from pipeline.ingestion.refused_days import read_refused_days
from pipeline.lake.codes import IdKind
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

_MANIFESTS = {IdKind.MUSIC: "music", IdKind.VIDEO: "videos"}
_EMPTY = Manifest([], [], "")


@dataclass(frozen=True)
class Delivery:
    """The delivered content of a landing day, before any media file is opened.

    Attributes:
        landing: its folder.
        manifests: the manifests of tracks and videos; without rows if there is an error.
        owners: the ids that earlier days own.
        fingerprint: hash of the files, the relevant settings and `owners`.
        error: why the manifests cannot be read; None if they can.
    """

    landing: LandingDay
    manifests: Mapping[IdKind, Manifest]
    owners: EarlierOwners
    fingerprint: str
    error: Permanent | None = None


def read_delivery(settings: Settings, lake: Lake, day: dt.date) -> Delivery:
    """Read a day's manifests.

    Raises:
        LandingUnavailableError: the landing folder's storage does not answer.
    """
    landing = LandingDay(settings.landing.root, day)
    # Hash the files first, so that a later change of a manifest also changes the fingerprint.
    files = landing.fingerprint(_salt(settings))
    manifests, manifest_error = dict.fromkeys(_MANIFESTS, _EMPTY), None
    try:
        manifests = {kind: landing.manifest(name) for kind, name in _MANIFESTS.items()}
    except (ManifestError, LandingAccessError) as error:
        manifest_error = error
    owners = find_earlier_owners(lake, day, manifests[IdKind.VIDEO], manifests[IdKind.MUSIC])
    fingerprint = hashlib.sha256(f"{files}{owners.digest}".encode()).hexdigest()
    return Delivery(landing, manifests, owners, fingerprint, manifest_error)


def complete_days(settings: Settings, first: dt.date, last: dt.date) -> list[dt.date]:
    """Return the landing days from `first` to `last` that have `_SUCCESS`, in order."""
    root = settings.landing.root
    days = [day for day in landing_days(root) if first <= day <= last]
    return [day for day in days if LandingDay(root, day).is_complete]


def unfinished_days(context: Context, first: dt.date, last: dt.date) -> dict[dt.date, str]:
    """Return the complete landing days from `first` to `last` that need a run.

    A day needs a run if it is new, has changed since its ingest, was not checked since its ingest,
    or has files to retry. A refused day needs a run only if it has changed since, or if rejected
    files that count towards the refusal can be tried again.

    Returns:
        The fingerprint of each such day, in order of the days.
    """
    settings, lake = context.settings, context.lake
    marks = lake.read("landing_days")
    read = dict(marks.select("dt", "fingerprint").iter_rows())
    ingested = dict(marks.select("dt", "finished_at").iter_rows())
    checked = dict(lake.read("feature_days").select("dt", "finished_at").iter_rows())
    to_retry = days_to_retry(settings, lake)
    refused_to_retry = refused_days_to_retry(settings, lake)
    refusals = read_refused_days(lake)
    refused = {
        refusal.day: refusal.fingerprint
        for refusal in refusals
        if refusal.day not in refused_to_retry
    }
    refused_days = {refusal.day for refusal in refusals}
    found = {
        day: read_delivery(settings, lake, day).fingerprint
        for day in complete_days(settings, first, last)
    }
    return {
        day: fingerprint
        for day, fingerprint in found.items()
        if fingerprint != refused.get(day)
        and (
            day not in checked
            or ingested.get(day, checked[day]) > checked[day]
            or fingerprint != read.get(day)
            # An earlier delivery was put back after another one was refused.
            or day in refused_days
            or day in to_retry
        )
    }


def missed_days(settings: Settings, lake: Lake, today: dt.date) -> list[dt.date]:
    """Return the complete landing days that are too old for any night and are in no table.

    Args:
        settings: `[landing]`.
        lake: with the ingested and the refused days.
        today: the current day in UTC. The night of the day before looks back `lookback_days`.

    Raises:
        LandingAccessError: the operating system does not permit reading the landing folder.
        LandingUnavailableError: the landing folder's storage does not answer.
    """
    first = today - dt.timedelta(days=1 + settings.landing.lookback_days)
    seen = {*lake.read("landing_days")["dt"], *(each.day for each in read_refused_days(lake))}
    root = settings.landing.root
    days = [day for day in landing_days(root) if day < first and day not in seen]
    return [day for day in days if LandingDay(root, day).is_complete]


def days_to_retry(settings: Settings, lake: Lake) -> set[dt.date]:
    """Return the days with quarantined files that can be tried again."""
    return set(lake.read("quarantine", retryable_rejects(settings))["dt"])


def refused_days_to_retry(settings: Settings, lake: Lake) -> set[dt.date]:
    """Return the refused days among whose too many rejects are files that can be tried again."""
    refusals = pl.DataFrame(
        [
            (refusal.day, refusal.step)
            for refusal in read_refused_days(lake)
            if refusal.reason == TooManyRejectsError.__name__
        ],
        schema={"dt": pl.Date, "refused_by": pl.String},
        orient="row",
    )
    files = lake.read("quarantine", retryable_rejects(settings)).select("dt", "step")
    # Attempts of extraction are counted only if the day is accepted by `ingest`.
    counted = (pl.col("refused_by") == "check") | (pl.col("step") == "ingest")
    return set(refusals.join(files, on="dt").filter(counted)["dt"])


def retryable_rejects(settings: Settings) -> pl.Expr:
    """Return a predicate for rows of `quarantine` whose file can be tried again.

    The cause of their failure may have been the machine, and attempts are left.
    """
    transient = [str(reason) for reason in Reason if reason.is_transient]
    attempts = settings.extract.max_attempts
    return pl.col("reason").is_in(transient) & (pl.col("attempts") < attempts)


def _salt(settings: Settings) -> str:
    """Text of the settings that change the result of ingesting the same files."""
    relevant = (
        settings.genres,
        settings.limits,
        settings.landing.clock_tolerance_hours,
        settings.extract.segment_seconds,
        settings.extract.min_segment_seconds,
    )
    return repr(relevant)
