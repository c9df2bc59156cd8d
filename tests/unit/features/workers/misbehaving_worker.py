"""Acts as a worker with a broken decoder: misbehaves as the file's name says."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from features.workers import worker
from features.workers.worker import Worker

plain = Worker._run


def misbehave(self: Worker, job: dict[str, Any]) -> Any:
    name = Path(job["path"]).name
    if name.startswith("segfault"):
        ctypes.string_at(0)
    if name.startswith("abort"):
        os.abort()
    if name.startswith("exit"):
        os._exit(3)
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("spin"):
        while True:
            pass
    if name.startswith("memory"):
        # Most machines would grant this; the worker's own limit refuses it.
        np.empty(8 << 30, np.uint8)
    if name.startswith("garbage"):
        os.write(int(os.environ["WIRE"]), b"\xff" * 64)
        time.sleep(600)
    if name.startswith("files"):
        for _ in range(200):
            os.open("/dev/null", os.O_RDONLY)
    if name.startswith("write"):
        Path(job["path"]).with_name("out").write_bytes(bytes(64 << 20))
    if name.startswith("network"):
        import socket

        socket.create_connection(("127.0.0.1", int(name.rsplit("_", 1)[1])), timeout=5)
    return plain(self, job)


def main() -> None:
    if os.environ.get("REFUSE"):
        sys.exit("the worker refuses to start")
    Worker._run = misbehave  # type: ignore[method-assign]
    real = os.fdopen

    def remember(descriptor: int, *args: Any, **options: Any) -> Any:
        os.environ["WIRE"] = str(descriptor)
        return real(descriptor, *args, **options)

    os.fdopen = remember  # type: ignore[assignment]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    worker.main()


if __name__ == "__main__":
    main()
