"""A pool loses no result, times only the work on a file, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from features import (
    ClipFeatures,
    Job,
    JobKind,
    Limits,
    MediaError,
    MediaInfo,
    MediaPool,
    Reason,
    VisualConfig,
    WorkerError,
)
from features.workers import pool, process, protocol, sandbox, worker
from tests.helpers.hang_watch import Limit

STUB = str(Path(__file__).with_name("stub_worker.py"))

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_WORKER", ("-P", STUB))


def open_pool(workers: int = 1, **limits: float) -> MediaPool:
    return MediaPool(workers, Limits(**limits), None, None)


def jobs(*names: str) -> list[Job]:
    return [Job(name, Path(name), JobKind.PROBE) for name in names]


def pids(media: MediaPool) -> list[int]:
    return [child.process.pid for child in media._processes]


def gone(pid: int) -> bool:
    """Whether the process does not exist, not even as a zombie."""
    return not Path(f"/proc/{pid}").exists()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_slow_caller_makes_no_file_late() -> None:
    with open_pool(2, wall_seconds=1) as media:
        found = {}
        for job, result in media.run(jobs("big 1", "big 2", "big 3", "big 4")):
            time.sleep(1.5)
            found[job.key] = type(result)
    assert found == dict.fromkeys(("big 1", "big 2", "big 3", "big 4"), ClipFeatures)


def test_a_slow_iterator_of_jobs_makes_no_file_late() -> None:
    def slow() -> Iterator[Job]:
        yield from jobs("big 1")
        time.sleep(1.5)
        yield from jobs("big 2")

    with open_pool(2, wall_seconds=1) as media:
        assert [type(result) for _, result in media.run(slow())] == [ClipFeatures] * 2


def test_a_worker_that_starts_while_the_caller_is_slow_is_not_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_pool() as media:
        results = media.run(jobs("one", "two", "three"))
        next(results)
        monkeypatch.setattr(pool, "_WORKER", ("-P", STUB, "late"))
        monkeypatch.setattr(process, "START_SECONDS", 4.0)
        media.workers = 2
        next(results)
        time.sleep(5)
        assert len(list(results)) == 1


def test_a_file_is_timed_out_even_with_a_slow_caller() -> None:
    with open_pool(2, wall_seconds=1) as media:
        results = media.run(jobs("hang", "one", "two"))
        found = {}
        for job, result in results:
            time.sleep(1.5)
            found[job.key] = result
    assert isinstance(found["hang"], MediaError)
    assert found["hang"].reason is Reason.TIMED_OUT


def test_an_answer_that_stops_midway_is_timed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_ANSWER_SECONDS", 1.0)
    with open_pool() as media:
        found = {job.key: result for job, result in media.run(jobs("stalled", "good"))}
    assert isinstance(found["stalled"], MediaError)
    assert found["stalled"].reason is Reason.TIMED_OUT
    assert isinstance(found["good"], ClipFeatures)


@pytest.mark.parametrize("name", ["nan", "unknown", "nested"])
def test_an_invalid_result_rejects_its_file(name: str) -> None:
    with open_pool() as media:
        found = {job.key: result for job, result in media.run(jobs(name, "good"))}
    error = found[name]
    assert isinstance(error, MediaError)
    assert error.reason is Reason.CRASHED
    assert "the worker sent" in error.detail
    assert isinstance(found["good"], ClipFeatures)


def test_a_result_too_large_for_a_message_rejects_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "HEADER_LIMIT", 200)
    confined = sandbox.Sandbox(Limits(), 0)
    long = MediaInfo(
        "0" * 64, 9, 1.5, (0.0, 1.5), 64, 48, 25.0, True, False, "mp4" * 50, "h264", ""
    )
    ((header, arrays),) = protocol.Unpacker().feed(worker._message(long, confined))
    error = protocol.unpack_result(header, arrays)
    assert isinstance(error, MediaError)
    assert error.reason is Reason.TOO_LARGE
    assert "200" in error.detail


def test_a_number_that_no_table_accepts_rejects_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def odd(*_: object) -> MediaInfo:
        return MediaInfo(
            "0" * 64, 9, float("nan"), (0.0, 1.5), 64, 48, 25.0, True, False, "mp4", "h264", ""
        )

    monkeypatch.setattr(worker, "probe", odd)
    job = {"path": "x", "kind": "probe", "content_hash": None}
    error = worker.Worker(Limits(), None, None).answer(job)
    assert isinstance(error, MediaError)
    assert error.reason is Reason.UNDECODABLE


def test_a_worker_killed_from_outside_rejects_its_file() -> None:
    with open_pool() as media:
        found = {job.key: result for job, result in media.run(jobs("die", "good"))}
    assert isinstance(found["die"], MediaError)
    assert found["die"].reason is Reason.OUT_OF_MEMORY
    assert "SIGKILL" in found["die"].detail
    assert isinstance(found["good"], ClipFeatures)


def test_error_output_about_an_earlier_file_is_not_reported() -> None:
    with open_pool() as media:
        found = {job.key: result for job, result in media.run(jobs("says it", "segfault"))}
    error = found["segfault"]
    assert isinstance(error, MediaError)
    assert (error.reason, error.detail) == (
        Reason.CRASHED,
        "the decoder crashed (SIGSEGV): it printed nothing",
    )


def test_a_worker_that_ends_while_idle_rejects_no_file() -> None:
    with open_pool(2) as media:
        first = list(media.run(jobs("one", "two")))
        for pid in pids(media):
            os.kill(pid, signal.SIGKILL)
        again = list(media.run(jobs("three", "four")))
    assert [type(result) for _, result in first + again] == [ClipFeatures] * 4


@pytest.mark.parametrize("manner", ["refuse", "leave", "babble"])
def test_workers_that_fail_in_a_row_end_the_run(
    manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_WORKER", ("-P", STUB, manner))
    started = []
    plain = MediaPool._start

    def counting(media: MediaPool) -> None:
        started.append(1)
        assert len(started) < 20
        plain(media)

    monkeypatch.setattr(MediaPool, "_start", counting)
    with open_pool(2) as media, pytest.raises(WorkerError, match=f"the worker {manner}"):
        list(media.run(jobs(*map(str, range(50)))))
    assert media._processes == []


def test_a_worker_that_cannot_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [("-P", STUB, "refuse"), ("-P", STUB, "refuse")]
    plain = MediaPool._start

    def start(media: MediaPool) -> None:
        monkeypatch.setattr(pool, "_WORKER", commands.pop() if commands else ("-P", STUB))
        plain(media)

    monkeypatch.setattr(MediaPool, "_start", start)
    with open_pool() as media:
        assert len(list(media.run(jobs("one", "two")))) == 2


def test_a_caller_that_stops_early_leaves_nothing_behind() -> None:
    before = open_descriptors()
    with open_pool(2) as media:
        results = media.run(jobs("one", "hang 1", "hang 2", "two"))
        next(results)
        children = pids(media)
        results.close()  # type: ignore[attr-defined]
        assert all(child.job is None for child in media._processes)
        # Results of the stopped run do not appear in the next run.
        assert [job.key for job, _ in media.run(jobs("three"))] == ["three"]
        children += pids(media)
    assert all(gone(pid) for pid in children)
    assert open_descriptors() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_of_the_caller_leaves_nothing_behind(error: type[BaseException]) -> None:
    before = open_descriptors()
    children = []
    with pytest.raises(error), open_pool(2) as media:  # noqa: PT012
        for _ in media.run(jobs("one", "hang 1", "hang 2")):
            children += pids(media)
            raise error
    assert children
    assert all(gone(pid) for pid in children)
    assert open_descriptors() == before


def test_an_error_of_the_iterator_of_jobs_leaves_nothing_behind() -> None:
    def broken() -> Iterator[Job]:
        yield from jobs("hang")
        raise KeyError("no more jobs")

    before = open_descriptors()
    with pytest.raises(KeyError), open_pool(1) as media:
        list(media.run(broken()))
    assert open_descriptors() == before
    with open_pool(1) as media:
        refused = [*jobs("one"), Job("two", Path("two"), JobKind.VIDEO)]
        with pytest.raises(ValueError, match="VisualConfig"):
            list(media.run(refused))
        assert pids(media) == []


def test_a_command_that_does_not_exist_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process.sys, "executable", "/nowhere/python")
    before = open_descriptors()
    with pytest.raises(FileNotFoundError), open_pool() as media:
        list(media.run(jobs("one")))
    assert open_descriptors() == before


def test_one_pool_has_one_run_at_a_time() -> None:
    with open_pool() as media:
        first = media.run(jobs("one", "two"))
        next(first)
        with pytest.raises(RuntimeError, match="another run"):
            next(media.run(jobs("three")))
        assert [job.key for job, _ in first] == ["two"]


def test_a_worker_that_asks_to_be_replaced_is_replaced() -> None:
    with open_pool() as media:
        results = media.run(jobs("one", "leak", "two", "three"))
        before, *after = [pids(media) for _ in results]
    # The worker ended before its last result was yielded.
    assert after[0] == []
    assert after[1] == after[2] != before


@pytest.mark.parametrize("killed_by", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_parent_that_is_ended(killed_by: signal.Signals) -> None:
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from features import Job, JobKind, Limits, MediaPool
        from features.workers import pool
        pool._WORKER = ("-P", {STUB!r})
        with MediaPool(2, Limits(wall_seconds=60), None, None) as media:
            names = ("good", "hang 1", "hang 2")
            run = media.run(Job(name, Path(name), JobKind.PROBE) for name in names)
            next(run)
            print(*(child.process.pid for child in media._processes), flush=True)
            next(run)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert children
        parent.send_signal(killed_by)
        parent.wait()
    finally:
        parent.kill()
        parent.communicate()
    limit = Limit(10)
    while not all(ended(pid) for pid in children):
        assert not limit.is_reached()
        time.sleep(0.02)


def ended(pid: int) -> bool:
    """Whether a process has ended; a zombie of another parent has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z"
    except FileNotFoundError:
        return True


def test_a_pool_needs_at_least_one_worker() -> None:
    with pytest.raises(ValueError, match="workers"):
        MediaPool(0, Limits(), VisualConfig(), None)
