"""Two gloo processes on one machine train as one process does."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def run_two(folder: Path) -> list[dict[str, Any]]:
    """Train in two processes; return what each found."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    outs = [folder / f"{rank}.json" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "one_process.py"), str(rank), "2",
             str(folder / "meeting"), str(out)],
            env=environment,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, out in enumerate(outs)
    ]  # fmt: skip
    try:
        for process in processes:
            _, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads(out.read_text(encoding="utf-8")) for out in outs]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    alone = runpy.run_path(str(HERE / "one_process.py"))["train"]()
    first, second = run_two(tmp_path)
    assert first["weights"] == second["weights"], "processes must end with the same weights"
    assert len(alone["losses"]) == len(first["losses"]) == 6
    for epoch in range(6):
        assert set(alone["losses"][epoch]) == set(first["losses"][epoch])
        for name, value in alone["losses"][epoch].items():
            halves = [each["losses"][epoch][name] for each in (first, second)]
            np.testing.assert_allclose(np.mean(halves), value, rtol=2e-3, err_msg=f"{epoch} {name}")
