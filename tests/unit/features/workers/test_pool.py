from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from features import (
    AudioConfig,
    AudioExtractor,
    ClipFeatures,
    Job,
    JobKind,
    Limits,
    MediaError,
    MediaFile,
    MediaInfo,
    MediaPool,
    Reason,
    VisualConfig,
    VisualExtractor,
    WorkerError,
)
from features.workers import pool
from tests.helpers.hang_watch import Limit

Rendered = Callable[[str], Path]
Run = Callable[..., dict[str, object]]

VISUAL = VisualConfig(frames=2)
AUDIO = AudioConfig()
BAD_WORKER = Path(__file__).with_name("misbehaving_worker.py")


@pytest.fixture
def _bad_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_WORKER", ("-P", str(BAD_WORKER)))


@pytest.fixture
def named(rendered: Rendered, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a good clip under a name."""

    def copy(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(rendered("film.mp4").read_bytes())
        return path

    return copy


def test_each_kind_of_job_gives_its_kind_of_result(run: Run, rendered: Rendered) -> None:
    film, song = rendered("film.mp4"), rendered("stereo.mp3")
    sha = hashlib.sha256(film.read_bytes()).hexdigest()
    spans = ((0.0, 2.0), (1.0, 3.5))
    found = run(
        [
            Job("probe", film, JobKind.PROBE),
            Job("probe_video", film, JobKind.PROBE_VIDEO, sha),
            Job("probe_music", song, JobKind.PROBE_MUSIC),
            Job("video", film, JobKind.VIDEO, sha.upper()),
            Job("music", song, JobKind.MUSIC),
            Job("segments", film, JobKind.SEGMENTS, sha, spans),
        ],
        workers=2,
    )
    info = found["probe_video"]
    assert isinstance(info, MediaInfo)
    assert info == found["probe"]
    assert (info.content_hash, info.bytes) == (sha, film.stat().st_size)
    assert (info.width, info.height, info.has_video, info.has_audio) == (192, 112, True, True)
    assert info.fps == pytest.approx(24, abs=0.01)
    assert info.duration == pytest.approx(4.0, abs=0.06)
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")

    visual, audio = VisualExtractor(VISUAL), AudioExtractor(AUDIO)
    video, music, segments = (found[name] for name in ("video", "music", "segments"))
    assert isinstance(video, ClipFeatures)
    assert isinstance(music, ClipFeatures)
    assert isinstance(segments, ClipFeatures)
    assert (len(video.visual), len(video.audio)) == (1, 0)
    assert (len(music.visual), len(music.audio)) == (0, 1)
    assert (len(segments.visual), len(segments.audio)) == (2, 2)
    # A worker returns what an extractor in this process returns.
    np.testing.assert_array_equal(
        video.visual[0].embedding, visual.extract(MediaFile(film))[0].embedding
    )
    np.testing.assert_array_equal(music.audio[0].mel, audio.extract(MediaFile(song))[0].mel)
    for i, (ours, sound) in enumerate(
        zip(
            visual.extract(MediaFile(film), spans),
            audio.extract(MediaFile(film), spans),
            strict=True,
        )
    ):
        np.testing.assert_array_equal(segments.visual[i].frame_times, ours.frame_times)
        np.testing.assert_allclose(segments.audio[i].embedding, sound.embedding, 1e-4, 1e-4)
    assert segments.visual[1].frame_times.min() >= 1.0
    assert 0 < video.cpu_seconds < 60


def test_a_file_that_is_not_what_the_job_needs_is_rejected(
    run: Run, rendered: Rendered, tmp_path: Path
) -> None:
    cases: list[tuple[Path, JobKind, Reason]] = [
        (rendered("silent.mp4"), JobKind.PROBE_MUSIC, Reason.NO_AUDIO),
        (rendered("silent.mp4"), JobKind.MUSIC, Reason.NO_AUDIO),
        (rendered("stereo.mp3"), JobKind.PROBE_VIDEO, Reason.NO_VIDEO),
        (rendered("album.mp3"), JobKind.PROBE_VIDEO, Reason.NO_VIDEO),
        (rendered("album.mp3"), JobKind.VIDEO, Reason.NO_VIDEO),
        (rendered("many_streams.mkv"), JobKind.PROBE, Reason.TOO_MANY_STREAMS),
        (tmp_path / "nothing.mp4", JobKind.PROBE, Reason.MISSING),
        *[(rendered("film.mp4"), JobKind.SEGMENTS, Reason.BAD_SEGMENT)] * 3,
    ]
    spans = iter([(5.0, 6.0), (-1.0, 1.0), (2.0, 1.0)])
    jobs = [
        Job(str(i), path, kind, segments=(next(spans),) if kind is JobKind.SEGMENTS else ())
        for i, (path, kind, _) in enumerate(cases)
    ]
    for key, result in run(jobs).items():
        assert isinstance(result, MediaError)
        assert result.reason is cases[int(key)][2], cases[int(key)]


def test_a_missing_stream_that_a_job_does_not_need_is_accepted(
    run: Run, rendered: Rendered
) -> None:
    found = run(
        [
            Job("silent", rendered("silent.mp4"), JobKind.SEGMENTS, segments=((0.0, 1.0),)),
            Job("probe_silent", rendered("silent.mp4"), JobKind.PROBE_VIDEO),
            Job("album", rendered("album.mp3"), JobKind.PROBE_MUSIC),
            Job("cover", rendered("album.mp3"), JobKind.MUSIC),
        ]
    )
    silent, info, album = found["silent"], found["probe_silent"], found["album"]
    assert isinstance(silent, ClipFeatures)
    assert (len(silent.visual), len(silent.audio)) == (1, 0)
    assert isinstance(info, MediaInfo)
    assert (info.has_video, info.has_audio, info.audio_codec) == (True, False, "")
    assert isinstance(album, MediaInfo)
    assert (album.has_video, album.width, album.fps) == (False, 0, 0.0)
    assert isinstance(found["cover"], ClipFeatures)


def test_a_file_with_another_hash_is_not_decoded(run: Run, rendered: Rendered) -> None:
    jobs = [
        Job(kind, rendered("film.mp4"), kind, "0" * 64)
        for kind in (JobKind.PROBE, JobKind.VIDEO, JobKind.MUSIC, JobKind.SEGMENTS)
    ]
    for result in run(jobs).values():
        assert isinstance(result, MediaError)
        assert result.reason is Reason.HASH_MISMATCH


@pytest.mark.usefixtures("_bad_worker")
def test_a_file_that_breaks_its_worker_rejects_only_itself(
    run: Run, named: Callable[[str], Path]
) -> None:
    expected = {
        "segfault": Reason.CRASHED,
        "abort": Reason.CRASHED,
        "exit": Reason.CRASHED,
        "spin": Reason.TIMED_OUT,
        "memory": Reason.OUT_OF_MEMORY,
        "garbage": Reason.CRASHED,
    }
    jobs = []
    for name in expected:
        jobs += [
            Job(name, named(name), JobKind.VIDEO),
            Job(f"after {name}", named("good"), JobKind.VIDEO),
        ]
    limits = Limits(wall_seconds=100, cpu_seconds=3, memory=1 << 30)
    found = run(jobs, limits, workers=2)
    assert len(found) == len(jobs)
    for name, reason in expected.items():
        result = found[name]
        assert isinstance(result, MediaError), name
        assert result.reason is reason, (name, result)
        assert isinstance(found[f"after {name}"], ClipFeatures)
    assert "SIGSEGV" in found["segfault"].detail  # type: ignore[attr-defined]
    assert "cpu" in found["spin"].detail.lower()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_bad_worker")
def test_a_hang_is_timed_out_and_the_other_files_are_processed(
    run: Run, named: Callable[[str], Path]
) -> None:
    jobs = [Job(name, named(name), JobKind.PROBE) for name in ("hang", "good 1", "good 2")]
    found = run(jobs, Limits(wall_seconds=5))
    assert isinstance(found["hang"], MediaError)
    assert found["hang"].reason is Reason.TIMED_OUT
    assert "limits.wall_seconds" in found["hang"].detail
    assert isinstance(found["good 1"], MediaInfo)
    assert isinstance(found["good 2"], MediaInfo)


@pytest.mark.usefixtures("_bad_worker")
def test_workers_open_few_files_and_write_little(run: Run, named: Callable[[str], Path]) -> None:
    found = run([Job(name, named(name), JobKind.VIDEO) for name in ("files", "write")])
    assert all(isinstance(result, MediaError) for result in found.values())
    assert (named("write").parent / "out").stat().st_size <= 1 << 20


@pytest.mark.usefixtures("_bad_worker")
@pytest.mark.skipif(os.getuid() != 0, reason="without user namespaces only root leaves a network")
def test_workers_cannot_reach_the_network(run: Run, named: Callable[[str], Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"network_{server.getsockname()[1]}"
        result = run([Job(name, named(name), JobKind.VIDEO)])[name]
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    assert isinstance(result, MediaError)
    assert result.reason is Reason.CRASHED


def test_workers_that_cannot_start_end_the_run_and_reject_no_file(
    run: Run, rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_WORKER", ("-c", "import sys; sys.exit('no such codec')"))
    with pytest.raises(WorkerError, match="no such codec"):
        run([Job("it", rendered("film.mp4"), JobKind.VIDEO)])


def test_a_job_whose_extractor_is_missing_is_an_error(rendered: Rendered) -> None:
    with (
        MediaPool(1, Limits(), None, None) as media,
        pytest.raises(ValueError, match="a pool with a VisualConfig"),
    ):
        list(media.run([Job("it", rendered("film.mp4"), JobKind.VIDEO)]))


def test_jobs_are_taken_one_by_one_and_a_pool_can_run_again(rendered: Rendered) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(6):
            taken.append(number)
            yield Job(str(number), rendered("film.mp4"), JobKind.PROBE)

    with MediaPool(2, Limits(), None, None) as media:
        results = media.run(jobs())
        next(results)
        assert len(taken) <= 5
        assert len(list(results)) == 5
        processes = [process.process for process in media._processes]
        assert len(list(media.run([Job("again", rendered("film.mp4"), JobKind.PROBE)]))) == 1
        assert [process.process for process in media._processes] == processes
    assert all(process.poll() is not None for process in processes)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_end_with_a_parent_that_is_killed(named: Callable[[str], Path]) -> None:
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from features import Job, JobKind, Limits, MediaPool
        from features.workers import pool
        pool._WORKER = ("-P", {str(BAD_WORKER)!r})
        with MediaPool(2, Limits(), None, None) as media:
            jobs = [Job(str(i), Path({str(named("hang"))!r}), JobKind.PROBE) for i in range(2)]
            run = media.run([Job("good", Path({str(named("good"))!r}), JobKind.PROBE), *jobs])
            next(run)
            print(*(process.process.pid for process in media._processes), flush=True)
            next(run)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert children
    assert all(alive(pid) for pid in children)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    limit = Limit(5)
    while any(alive(pid) for pid in children):
        assert not limit.is_reached()
        time.sleep(0.02)


def test_a_pool_works_inside_a_daemonic_process(rendered: Rendered) -> None:
    script = textwrap.dedent(
        f"""
        import multiprocessing as mp
        from pathlib import Path
        from features import Job, JobKind, Limits, MediaInfo, MediaPool

        def work(pipe):
            with MediaPool(1, Limits(), None, None) as media:
                job = Job("it", Path({str(rendered("film.mp4"))!r}), JobKind.PROBE)
                ((_, result),) = media.run([job])
            pipe.send(isinstance(result, MediaInfo))

        ours, theirs = mp.Pipe()
        process = mp.get_context("fork").Process(target=work, args=(theirs,), daemon=True)
        process.start()
        assert ours.poll(60) and ours.recv()
        """
    )
    subprocess.run([sys.executable, "-c", script], check=True)
