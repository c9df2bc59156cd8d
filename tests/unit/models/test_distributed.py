"""Training in other processes: two gloo processes together, and one that is killed."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "tests" / "helpers" / "train_one_process.py"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
KILLED = """
import os, runpy, signal, sys
from pathlib import Path

def kill(log):
    if (log.stage, log.epoch) == ("student", 1):
        os.kill(os.getpid(), signal.SIGKILL)

runpy.run_path(sys.argv[1])["train"](Path(sys.argv[2]), kill)
"""


def run_two(folder: Path) -> list[dict[str, Any]]:
    """Train in two processes and return the result of each."""
    outs = [folder / f"{rank}.json" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), "2",
             str(folder / "meeting"), str(out)],
            env=ENVIRONMENT,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, out in enumerate(outs)
    ]  # fmt: skip
    try:
        for process in processes:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads(out.read_text(encoding="utf-8")) for out in outs]


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    alone = runpy.run_path(str(SCRIPT))["train"]()
    first, second = run_two(tmp_path)
    assert first["weights"] == second["weights"], "processes must end with the same weights"
    assert len(alone["losses"]) == len(first["losses"]) == 6
    for epoch in range(6):
        assert set(alone["losses"][epoch]) == set(first["losses"][epoch])
        for name, value in alone["losses"][epoch].items():
            halves = [each["losses"][epoch][name] for each in (first, second)]
            np.testing.assert_allclose(np.mean(halves), value, rtol=2e-3, err_msg=f"{epoch} {name}")


def test_a_killed_process_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(SCRIPT), str(tmp_path)],
        env=ENVIRONMENT,
        cwd=ROOT,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    train = runpy.run_path(str(SCRIPT))["train"]
    resumed: list[tuple[str, int]] = []
    found = train(tmp_path, lambda log: resumed.append((log.stage, log.epoch)))
    assert resumed[0] == ("student", 2)
    assert found == train()
