from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.sound.numba_cache import one_compiler

# Measures noise, notes and clicks after the extractor has been made, and prints what numba did.
SCRIPT = """
import sys
import features.sound.extractor
assert "numba" not in sys.modules, "numba compiled before the lock was taken"
extractor = features.sound.extractor.AudioExtractor(features.AudioConfig())
print("extractor made", flush=True)
import numpy as np
rate = extractor.config.sample_rate
time = np.arange(4 * rate) / rate
noise = np.random.default_rng(0).normal(0, 0.1, len(time))
for sound in (noise, np.sin(2 * np.pi * 440 * time), np.where(time % 0.5 < 0.01, noise, 0)):
    extractor.measure(sound.astype(np.float32), features.results.Decoder.PYAV)
print("sound measured", flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_many_first_processes_one_compiles_everything_that_sound_needs(tmp_path: Path) -> None:
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_DEBUG_CACHE": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", SCRIPT], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    saved = [text.count("data saved to") for text in printed]
    assert sorted(saved)[:2] == [0, 0]
    assert max(saved) > 10
    for text in printed:
        making, measuring = text.split("extractor made")
        assert measuring.strip().endswith("sound measured")
        assert "[cache]" in making
        # Real sound needs no function and no signature that making the extractor did not use.
        assert "[cache]" not in measuring


def test_a_complete_cache_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    with one_compiler(["rhythm"]):
        assert not list(tmp_path.rglob("*.complete"))
    assert len(list(tmp_path.rglob("*.complete"))) == 1
    (tmp_path / "numba" / "compile.lock").unlink()
    with one_compiler(["rhythm"]):
        assert not (tmp_path / "numba" / "compile.lock").exists()
    # Other blocks may use other functions.
    with one_compiler(["rhythm", "harmony"]):
        assert (tmp_path / "numba" / "compile.lock").exists()


def test_a_cache_is_complete_only_after_a_body_without_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="broken"), one_compiler(["rhythm"]):
        raise ValueError("broken")
    assert not list(tmp_path.glob("*.complete"))


def test_a_cache_folder_that_cannot_be_written_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    ran = False
    with one_compiler(["rhythm"]):
        ran = True
    assert ran
    assert "cannot be written" in caplog.text


def test_without_a_cache_folder_the_body_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    ran = False
    with one_compiler(["rhythm"]):
        ran = True
    assert ran
