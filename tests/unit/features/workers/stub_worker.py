"""Acts as a worker without decoders: starts at once, answers as the file's name says."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from pathlib import Path

import numpy as np

from features.results import ClipFeatures, Decoder, VisualFeatures
from features.workers import protocol, sandbox


def features(values: int, *, replace: bool = False) -> bytes:
    embedding = np.zeros(values, np.float32)
    visual = VisualFeatures(embedding, np.zeros(1), np.zeros((1, 1), np.float16), Decoder.PYAV, 0.0)
    return protocol.pack_result(ClipFeatures((visual,), (), 0.0), replace=replace)


def answer(name: str) -> bytes:
    if name.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("stalled"):
        os.write(1, features(10)[:5])
        time.sleep(600)
    if name.startswith("says"):
        sys.stderr.write("the library prints std::bad_alloc and goes on\n")
        sys.stderr.flush()
    if name.startswith("segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("nan"):
        return features(4).replace(bytes(16), np.full(4, np.nan, np.float32).tobytes(), 1)
    if name.startswith("unknown"):
        return protocol.pack({"type": "secret"})
    if name.startswith("nested"):
        text = b"[" * 100_000
        return struct.pack("<I", len(text)) + text
    return features(4_000_000 if name.startswith("big") else 10, replace=name.startswith("leak"))


def main() -> None:
    if sys.argv[1:] == ["refuse"]:
        sys.exit("the worker refuses to start")
    if sys.argv[1:] == ["late"]:
        time.sleep(2)
    if sys.argv[1:] == ["babble"]:
        sys.stderr.write("the worker babbles\n")
        os.write(1, b"\xff" * 64)
        time.sleep(600)
    setup = protocol.read_message(sys.stdin.buffer)
    assert setup is not None
    sandbox.die_with_parent(setup["parent"])
    out = sys.stdout.buffer
    out.write(protocol.pack({"type": "ready"}))
    out.flush()
    if sys.argv[1:] == ["leave"]:
        sys.exit("the worker leaves at once")
    while (job := protocol.read_message(sys.stdin.buffer)) is not None:
        out.write(protocol.pack({"type": "taken"}))
        out.flush()
        out.write(answer(Path(job["path"]).name))
        out.flush()


if __name__ == "__main__":
    main()
