"""The rows of a small world that are not what they should be, and what must become of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np

from simulation.plan import Plan, PlannedVideo
from simulation.truth import OddRow

_PLAYLIST = b"""#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:10
#EXTINF:10.0,
file:///etc/hostname
#EXTINF:10.0,
http://127.0.0.1:9/segment.ts
#EXT-X-ENDLIST
"""
_PROSE = b"This is a shopping list, not a song: oranges, bread, string for the guitar.\n" * 60


@dataclass(frozen=True)
class Oddity:
    """An odd row and how its file comes about.

    Attributes:
        truth: what it is and what is expected of it.
        video: the row; the file is rendered from it unless one of the others says otherwise.
        content: bytes to write instead.
        kept: share of the rendered file that is kept.
        copy_of: the video of the same world whose file is copied.
        sha256: the hash the manifest claims; None for the true one.
        is_missing: whether the file is left out.
    """

    truth: OddRow
    video: PlannedVideo
    content: bytes | None = None
    kept: float = 1.0
    copy_of: PlannedVideo | None = None
    sha256: str | None = None
    is_missing: bool = False

    @property
    def is_rendered(self) -> bool:
        """Whether its file has to be rendered."""
        return self.content is None and self.copy_of is None and not self.is_missing


def plan_oddities(plan: Plan) -> tuple[tuple[Oddity, ...], Oddity]:
    """Chooses the odd rows of a world.

    Args:
        plan: of at least three days, with a UGC video as its first row.

    Returns:
        The rows delivered with their day, and the upload of the first day that comes late.
        Their reasons are the codes of `features.errors.Reason` and
        `pipeline.errors.RowReason`.

    Raises:
        ValueError: the plan has fewer than three days.
    """
    if len(plan.days) < 3:
        raise ValueError(f"the odd rows need three days, the world has {len(plan.days)}")
    first, second, third = plan.days[:3]
    sample = plan.videos[0]
    noise = np.random.default_rng(5).bytes(40_000)
    twin = _clip(plan, "v9010", second, 8)
    odd = (
        _odd(plan, "v9001", first, "unsupported_container", "random bytes", content=noise),
        _odd(plan, "v9002", first, "truncated", "the second half of the file is gone", kept=0.5),
        _odd(plan, "v9003", first, "missing", "the file was not delivered", is_missing=True),
        _odd(plan, "v9004", second, "empty", "a file of zero bytes", content=b""),
        _odd(plan, "v9005", second, "hash_mismatch", "the sha256 lies", sha256="0" * 64),
        _escape(plan, "v9006", second),
        _odd(plan, "v9008", second, "", "its id comes again below"),
        _again(plan, "v9008", second, "duplicate_id", "the id stands twice in one manifest"),
        Oddity(
            _truth("v9010", second, "", f"the same bytes as {sample.video_id}"),
            replace(twin, uploader_id=plan.videos[-1].uploader_id),
            copy_of=sample,
        ),
        _again(plan, sample.video_id, third, "id_conflict", "an id of the first day, other bytes"),
        _stranger(plan, "v9007", third),
        _future(plan, "v9012", third),
        _odd(
            plan,
            "v9013",
            third,
            "unsupported_container",
            "a playlist of local files and addresses",
            content=_PLAYLIST,
        ),
    )
    late = _odd(plan, "v9020", first, "", "uploaded on the first day, delivered after it")
    return odd, late


def plan_bad_music(plan: Plan) -> tuple[OddRow, str, bytes]:
    """Chooses the track that is none: its row's truth, its media path and its bytes."""
    truth = OddRow(
        day=plan.days[0],
        kind="music",
        id="m9001",
        reason="unsupported_container",
        why="text posing as mp3",
    )
    return truth, "media/music/m9001.mp3", _PROSE


def _clip(plan: Plan, name: str, day: dt.date, hour: int) -> PlannedVideo:
    """A short clip like the first one of the world, by the same uploader, of other bytes."""
    sample = plan.videos[0]
    return replace(
        sample,
        video_id=name,
        uploaded_at=dt.datetime.combine(day, dt.time(hour), tzinfo=dt.UTC),
        media_path=f"media/video/{name}.mp4",
        parts=(replace(sample.parts[0], seconds=4.0),),
        seed=sample.seed + int(name[1:]),
        music_id=_known_track(plan),
    )


def _known_track(plan: Plan) -> str:
    return next(track.music_id for track in plan.music if track.day == plan.days[0])


def _truth(name: str, day: dt.date, reason: str, why: str) -> OddRow:
    return OddRow(day=day, kind="video", id=name, reason=reason, why=why)


def _odd(
    plan: Plan,
    name: str,
    day: dt.date,
    reason: str,
    why: str,
    *,
    content: bytes | None = None,
    kept: float = 1.0,
    sha256: str | None = None,
    is_missing: bool = False,
) -> Oddity:
    video = _clip(plan, name, day, 21)
    return Oddity(
        _truth(name, day, reason, why),
        video,
        content=content,
        kept=kept,
        sha256=sha256,
        is_missing=is_missing,
    )


def _again(plan: Plan, name: str, day: dt.date, reason: str, why: str) -> Oddity:
    video = _clip(plan, name, day, 22)
    other = replace(video, media_path=f"media/video/{name}-again.mp4", seed=video.seed + 1)
    return Oddity(_truth(name, day, reason, why), other)


def _escape(plan: Plan, name: str, day: dt.date) -> Oddity:
    video = replace(_clip(plan, name, day, 21), media_path="../../../../etc/hostname")
    truth = _truth(name, day, "outside_landing", "the path leaves the landing folder")
    return Oddity(truth, video, is_missing=True)


def _stranger(plan: Plan, name: str, day: dt.date) -> Oddity:
    video = replace(_clip(plan, name, day, 21), music_id="m8888")
    return Oddity(_truth(name, day, "unknown_music", "no manifest delivers its music"), video)


def _future(plan: Plan, name: str, day: dt.date) -> Oddity:
    moment = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
    video = replace(_clip(plan, name, day, 21), uploaded_at=moment)
    return Oddity(_truth(name, day, "future_upload", "uploaded in 2031, by its clock"), video)
