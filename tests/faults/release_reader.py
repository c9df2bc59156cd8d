"""Opens the current release in a loop while other processes change the lake."""

from __future__ import annotations

import threading
from pathlib import Path

from pipeline.releases.serving import Release


class ReleaseReader:
    """A thread that opens the current release again and again and queries it.

    Attributes:
        opened: times that the release was opened and gave an answer.
        failures: errors of the other times.
    """

    def __init__(self, root: Path) -> None:
        self.opened = 0
        self.failures: list[str] = []
        self._root = root
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> ReleaseReader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._done.is_set():
            try:
                release = Release.open(self._root)
                assert release.recommend_known(release.video_ids[0], top=3)
                self.opened += 1
            except Exception as error:
                self.failures.append(repr(error))
