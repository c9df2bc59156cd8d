"""What was delivered: a day's manifests, and which days need a run."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from features.errors import Reason
from pipeline.context import Context
from pipeline.errors import LandingAccessError, ManifestError, Permanent
from pipeline.ingestion.id_owners import EarlierOwners, find_earlier_owners
from pipeline.ingestion.landing_day import LandingDay, landing_days
from pipeline.ingestion.manifest import Manifest
from pipeline.ingestion.refused_days import read_refused_days
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

_MANIFESTS = {"music": "music", "video": "videos"}
_NOTHING = Manifest([], [], "")


@dataclass(frozen=True)
class Delivery:
    """A landing day as it was delivered, before any media file is opened.

    Attributes:
        landing: its folder.
        manifests: of "music" and "video"; without rows where there is a fault.
        earlier: what earlier days decide about its rows.
        fingerprint: hash over the files, the settings that matter, and `earlier`.
        fault: why the manifests cannot be read as a whole; None where they can.
    """

    landing: LandingDay
    manifests: Mapping[str, Manifest]
    earlier: EarlierOwners
    fingerprint: str
    fault: Permanent | None = None


def read_delivery(settings: Settings, lake: Lake, day: dt.date) -> Delivery:
    """Read a day's manifests.

    Raises:
        LandingUnavailableError: the landing folder's storage does not answer.
    """
    landing = LandingDay(settings.landing.root, day)
    # Before the manifests are read: what changes meanwhile is then found to have changed.
    files = landing.fingerprint(_salt(settings))
    manifests, fault = dict.fromkeys(_MANIFESTS, _NOTHING), None
    try:
        manifests = {kind: landing.manifest(name) for kind, name in _MANIFESTS.items()}
    except (ManifestError, LandingAccessError) as error:
        fault = error
    earlier = find_earlier_owners(lake, day, manifests["video"], manifests["music"])
    fingerprint = hashlib.sha256(f"{files}{earlier.digest}".encode()).hexdigest()
    return Delivery(landing, manifests, earlier, fingerprint, fault)


def complete_days(settings: Settings, first: dt.date, last: dt.date) -> list[dt.date]:
    """Landing days from `first` to `last` that hold `_SUCCESS`, in order."""
    root = settings.landing.root
    days = [day for day in landing_days(root) if first <= day <= last]
    return [day for day in days if LandingDay(root, day).is_complete]


def unfinished_days(context: Context, first: dt.date, last: dt.date) -> dict[dt.date, str]:
    """Complete landing days from `first` to `last` that need a run, in order: day -> fingerprint.

    That is: an ingest would read them anew, or they were not accounted for since their ingest. A
    day that was refused needs one only when its delivery has changed since.
    """
    settings, lake = context.settings, context.lake
    marks = lake.read("landing_days")
    read = dict(marks.select("dt", "fingerprint").iter_rows())
    ingested = dict(marks.select("dt", "finished_at").iter_rows())
    checked = dict(lake.read("feature_days").select("dt", "finished_at").iter_rows())
    refused = {refusal.day: refusal.fingerprint for refusal in read_refused_days(lake)}
    again = days_to_retry(settings, lake)
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
            or day in again
        )
    }


def days_to_retry(settings: Settings, lake: Lake) -> set[dt.date]:
    """Days with a file that failed for a cause that may have passed, and has a try left."""
    return set(lake.read("quarantine", retryable_rejects(settings))["dt"])


def retryable_rejects(settings: Settings) -> pl.Expr:
    """Of table `quarantine`: rows whose file failed for a cause that may lie in the machine."""
    passing = [str(reason) for reason in Reason if reason.is_transient]
    tries = settings.extract.max_attempts
    return pl.col("reason").is_in(passing) & (pl.col("attempts") < tries)


def _salt(settings: Settings) -> str:
    """Settings that change what an ingest of the same files writes."""
    relevant = (
        settings.genres,
        settings.limits,
        settings.landing.clock_tolerance_hours,
        settings.extract.segment_seconds,
        settings.extract.min_segment_seconds,
    )
    return repr(relevant)
