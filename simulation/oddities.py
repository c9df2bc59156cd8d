"""Plans the invalid and unusual rows of a small world, and the expected result of each."""

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
    """An invalid or unusual row, and how its file is made.

    Attributes:
        truth: the row's id and the expected reason in the quarantine.
        video: the row. Its file is rendered from it unless `content`, `copy_of` or `is_missing`
            is set.
        content: bytes of the file, instead of rendering it.
        kept: share of the rendered file that is kept, in (0, 1].
        copy_of: video of the same world whose file is copied.
        sha256: hash in the manifest; None for the true hash.
        is_missing: whether there is no file.
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
        """Whether the file is rendered."""
        return self.content is None and self.copy_of is None and not self.is_missing


def plan_oddities(plan: Plan) -> tuple[tuple[Oddity, ...], Oddity]:
    """Plan the invalid and unusual rows of a world.

    Args:
        plan: a plan of at least three days whose first video is UGC.

    Returns:
        The rows delivered with their day, and the row added to the first day later. The reasons
        are codes of `features.errors.Reason` and `pipeline.errors.RowReason`.

    Raises:
        ValueError: the plan has fewer than three days.
    """
    if len(plan.days) < 3:
        raise ValueError(f"a rendered world needs at least three days, found {len(plan.days)}")
    first, second, third = plan.days[:3]
    sample = plan.videos[0]
    noise = np.random.default_rng(5).bytes(40_000)
    twin = _short_clip(plan, "v9010", second, 8)
    odd = (
        _row(plan, "v9001", first, "unsupported_container", "random bytes", content=noise),
        _row(plan, "v9002", first, "truncated", "the second half of the file is missing", kept=0.5),
        _row(plan, "v9003", first, "missing", "the file was not delivered", is_missing=True),
        _row(plan, "v9004", second, "empty", "a file of zero bytes", content=b""),
        _row(
            plan,
            "v9005",
            second,
            "hash_mismatch",
            "the sha256 in the manifest is wrong",
            sha256="0" * 64,
        ),
        _path_outside_landing(plan, "v9006", second),
        _row(plan, "v9008", second, "", "a later row has the same id"),
        _same_id(
            plan, "v9008", second, "duplicate_id", "an earlier row of the manifest has the same id"
        ),
        Oddity(
            _truth("v9010", second, "", f"the same bytes as {sample.video_id}"),
            replace(twin, uploader_id=plan.videos[-1].uploader_id),
            copy_of=sample,
        ),
        _same_id(
            plan, sample.video_id, third, "id_conflict", "an id of the first day with other content"
        ),
        _unknown_track(plan, "v9007", third),
        _future_upload(plan, "v9012", third),
        _row(
            plan,
            "v9013",
            third,
            "unsupported_container",
            "a playlist of local files and URLs",
            content=_PLAYLIST,
        ),
    )
    late = _row(plan, "v9020", first, "", "uploaded on the first day, delivered later")
    return odd, late


def plan_bad_music(plan: Plan) -> tuple[OddRow, str, bytes]:
    """Plan a track whose file is text: return its truth, media path and bytes."""
    truth = OddRow(
        day=plan.days[0],
        kind="music",
        id="m9001",
        reason="unsupported_container",
        why="a text file named .mp3",
    )
    return truth, "media/music/m9001.mp3", _PROSE


def _short_clip(plan: Plan, name: str, day: dt.date, hour: int) -> PlannedVideo:
    """Return a short clip like the first video of the world, with other content."""
    sample = plan.videos[0]
    return replace(
        sample,
        video_id=name,
        uploaded_at=dt.datetime.combine(day, dt.time(hour), tzinfo=dt.UTC),
        media_path=f"media/video/{name}.mp4",
        parts=(replace(sample.parts[0], seconds=4.0),),
        seed=sample.seed + int(name[1:]),
        music_id=_first_track(plan),
    )


def _first_track(plan: Plan) -> str:
    return next(track.music_id for track in plan.music if track.day == plan.days[0])


def _truth(name: str, day: dt.date, reason: str, why: str) -> OddRow:
    return OddRow(day=day, kind="video", id=name, reason=reason, why=why)


def _row(
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
    video = _short_clip(plan, name, day, 21)
    return Oddity(
        _truth(name, day, reason, why),
        video,
        content=content,
        kept=kept,
        sha256=sha256,
        is_missing=is_missing,
    )


def _same_id(plan: Plan, name: str, day: dt.date, reason: str, why: str) -> Oddity:
    video = _short_clip(plan, name, day, 22)
    other = replace(video, media_path=f"media/video/{name}-again.mp4", seed=video.seed + 1)
    return Oddity(_truth(name, day, reason, why), other)


def _path_outside_landing(plan: Plan, name: str, day: dt.date) -> Oddity:
    video = replace(_short_clip(plan, name, day, 21), media_path="../../../../etc/hostname")
    truth = _truth(name, day, "outside_landing", "the path leaves the landing folder")
    return Oddity(truth, video, is_missing=True)


def _unknown_track(plan: Plan, name: str, day: dt.date) -> Oddity:
    video = replace(_short_clip(plan, name, day, 21), music_id="m8888")
    return Oddity(_truth(name, day, "unknown_music", "no manifest has its track"), video)


def _future_upload(plan: Plan, name: str, day: dt.date) -> Oddity:
    moment = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
    video = replace(_short_clip(plan, name, day, 21), uploaded_at=moment)
    return Oddity(_truth(name, day, "future_upload", "uploaded_at is in 2031"), video)
