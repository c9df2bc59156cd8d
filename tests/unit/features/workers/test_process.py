from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from features import EncoderError, Limits, Reason
from features.workers.process import child_environment, error_of_exit


def test_workers_know_no_secret_of_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    assert "secret" not in child_environment().values()


def test_workers_compile_into_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container image: neither librosa's folder nor HOME is writable."""
    monkeypatch.setenv("DEBCM_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", "/dev/null")
    script = (
        "from numba.core import caching\n"
        "kinds = caching.CacheImpl._locator_classes\n"
        "kinds[:] = [kind for kind in kinds if 'InTree' not in kind.__name__]\n"
        "import librosa.core.notation\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=child_environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_a_cache_folder_that_is_not_writable_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEBCM_CACHE", str(tmp_path / "file"))
    with pytest.raises(EncoderError, match="DEBCM_CACHE"):
        child_environment()


@pytest.mark.parametrize(
    ("status", "printed", "reason", "detail"),
    [
        (-24, "", Reason.TIMED_OUT, "longer than 120 s of CPU time"),
        (-9, "", Reason.OUT_OF_MEMORY, "SIGKILL"),
        (-6, "terminate called: std::bad_alloc", Reason.OUT_OF_MEMORY, "limits.memory"),
        (-11, "", Reason.CRASHED, "(SIGSEGV): it printed nothing"),
        (3, "first line\nlast line", Reason.CRASHED, "(exit status 3): last line"),
    ],
)
def test_the_exit_status_and_the_output_say_why_a_worker_died(
    status: int, printed: str, reason: Reason, detail: str
) -> None:
    error = error_of_exit(status, printed, Limits())
    assert error.reason is reason
    assert detail in error.detail
