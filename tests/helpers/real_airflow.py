"""Starts a real Airflow for end-to-end and service tests, with small days and receivers."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.orchestration.local_airflow import CHECKOUT, LocalAirflow
from simulation.encode import SAMPLE_RATE, write_sound, write_video
from tests.helpers.deliveries import write_manifest
from tests.helpers.hang_watch import Limit

DAYS = [dt.date(2026, 3, day) for day in (1, 2, 3)]
GENRES = ["rock", "techno", "classical"]
FRAMES = 12
ENDED = {"success", "failed"}
DAG_IDS = ("media_features", "debcm_retrain", "feature_backfill", "lake_upkeep")


@dataclass
class Platform:
    """Delivers landing days of small valid files; each day has different ones."""

    root: Path

    def deliver(self, day: dt.date, *, extra: int = 0) -> None:
        """Deliver six picks, two tracks, a music video, an invalid file, and `extra` more picks."""
        folder = self.root / f"dt={day}"
        (folder / "media").mkdir(parents=True, exist_ok=True)
        tracks, videos = [], []
        for i in range(2):
            name = f"m{day.day}{i}"
            write_track(folder / "media" / f"{name}.ogg", 110.0 * day.day * (i + 2))
            tracks.append(
                {
                    "music_id": name,
                    "genre": GENRES[(day.day + i) % len(GENRES)],
                    "title": f"title of {name}",
                    "artist": "somebody",
                    "media_path": f"media/{name}.ogg",
                }
            )
        for i in range(6 + extra):
            name = f"v{day.day}{i}"
            if not (folder / "media" / f"{name}.mp4").exists():
                write_clip(folder / "media" / f"{name}.mp4", seed=10 * day.day + i, seconds=1)
            videos.append(
                {
                    "video_id": name,
                    "uploader_id": f"u{i % 3}",
                    "music_id": tracks[i % 2]["music_id"],
                    "source": "ugc",
                    "uploaded_at": f"{day}T{10 + i}:00:00Z",
                    "media_path": f"media/{name}.mp4",
                }
            )
        write_clip(folder / "media" / "pgc.mp4", seed=day.day, seconds=4, tone=220.0 * day.day)
        videos.append(
            videos[0]
            | {"video_id": f"p{day.day}", "source": "pgc", "media_path": "media/pgc.mp4"}
            | {"uploader_id": "", "music_id": ""}
        )
        # An invalid file is quarantined; the rest of the day is processed.
        (folder / "media" / "broken.mp4").write_text("not a video")
        videos.append(videos[0] | {"video_id": f"b{day.day}", "media_path": "media/broken.mp4"})
        write_manifest(folder / "music.csv", list(tracks[0]), tracks)
        write_manifest(folder / "videos.csv", list(videos[0]), videos)
        (folder / "_SUCCESS").touch()


def _tone(frequency: float, seconds: float) -> np.ndarray:
    time_axis = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = 0.3 * np.sin(2 * np.pi * frequency * time_axis)
    return np.stack([wave, wave]).astype(np.float32)


def write_track(path: Path, frequency: float) -> None:
    """Write a tone of two seconds, unless the file exists."""
    if not path.exists():
        write_sound(path, _tone(frequency, 2.0))


def write_clip(
    path: Path,
    seed: int,
    seconds: int,
    tone: float = 440.0,
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> None:
    """Write a video of moving noise with a tone; `tint` scales red, green and blue."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (96, 96 + FRAMES * seconds, 3), dtype=np.uint8)
    tinted = (noise * np.array(tint)).astype(np.uint8)
    frames = [
        np.ascontiguousarray(tinted[:, start : start + 96]) for start in range(FRAMES * seconds)
    ]
    write_video(path, frames, FRAMES, _tone(tone, float(seconds)))


def small_settings(landing: Path, lake: Path | str) -> dict[str, str]:
    """Return settings as environment variables; three small days suffice for training and gate."""
    return {
        "DEBCM_LANDING__ROOT": str(landing),
        "DEBCM_LAKE__ROOT": str(lake),
        "DEBCM_MODEL__EPOCHS": "2",
        "DEBCM_MODEL__TEACHER_EPOCHS": "2",
        "DEBCM_MODEL__DIM": "8",
        "DEBCM_MODEL__HIDDEN": "16",
        "DEBCM_GATE__MIN_TEST_ROWS": "1",
        "DEBCM_EXTRACT__WORKERS": "1",
    }


@dataclass
class Receivers:
    """A webhook and a StatsD server on loopback, and what they received.

    Attributes:
        webhook_port: of the webhook, an HTTP server.
        statsd_port: of the StatsD server, UDP.
        posted: messages to the webhook.
        gauges: values per StatsD gauge, in order of arrival.
    """

    webhook_port: int
    statsd_port: int
    posted: list[dict[str, Any]] = field(default_factory=list)
    gauges: dict[str, list[float]] = field(default_factory=dict)

    def wait_for(self, title: str, day: str, seconds: float) -> dict[str, Any]:
        """Return the first message for a day whose title contains `title`; wait for it."""
        limit = Limit(seconds)
        while not limit.is_reached():
            for message in list(self.posted):
                if title in message["title"] and day in message["day"]:
                    return message
            time.sleep(0.5)
        raise AssertionError(f"no {title!r} among {[m['title'] for m in self.posted]}")


@contextmanager
def listening() -> Iterator[Receivers]:
    """Start receivers that listen until the block ends."""
    statsd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    statsd.bind(("127.0.0.1", 0))

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    webhook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    made = Receivers(webhook.server_port, statsd.getsockname()[1])

    def listen() -> None:
        while packet := statsd.recv(65_536):
            for line in packet.decode().splitlines():
                name, _, rest = line.partition(":")
                value, kind, *_ = rest.split("|")
                if kind == "g":
                    made.gauges.setdefault(name, []).append(float(value))

    threads = [
        threading.Thread(target=webhook.serve_forever, daemon=True),
        threading.Thread(target=listen, daemon=True),
    ]
    for thread in threads:
        thread.start()
    yield made
    webhook.shutdown()
    webhook.server_close()
    # An empty datagram stops the listener.
    statsd.sendto(b"", statsd.getsockname())
    threads[1].join(5)
    statsd.close()


@dataclass
class Watched:
    """A local Airflow, with queries for its DAG runs."""

    airflow: LocalAirflow

    @classmethod
    @contextmanager
    def start(
        cls, env: dict[str, str], workers: Mapping[str, Sequence[str]] | None = None
    ) -> Iterator[Watched]:
        with LocalAirflow(env, workers) as airflow:
            yield cls(airflow)

    def unpause(self, *dag_ids: str) -> None:
        limit = Limit(120)
        while {dag["dag_id"] for dag in self.airflow.call("GET", "/dags")["dags"]} < set(dag_ids):
            assert not limit.is_reached(), self.airflow.call("GET", "/importErrors")
            time.sleep(1)
        for dag_id in dag_ids:
            self.airflow.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.airflow.call(
            "GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=run_after"
        )["dag_runs"]
        return found

    def tasks(self, run: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the task instances of a DAG run by task id."""
        path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances?limit=200"
        found: dict[str, list[dict[str, Any]]] = {}
        for instance in self.airflow.call("GET", path)["task_instances"]:
            found.setdefault(instance["task_id"], []).append(instance)
        return found

    def states(self, dag_id: str, task_id: str) -> list[str]:
        """Return the states of a task in all runs of its DAG."""
        return [
            instance["state"]
            for run in self.runs(dag_id)
            for instance in self.tasks(run).get(task_id, [])
        ]

    def wait_until(self, reached: Callable[[], bool], what: str, seconds: float = 600) -> None:
        """Wait until `reached`; fail if no task changes its state for `seconds`."""
        end, before = time.monotonic() + seconds, self._progress()
        while not reached():
            if time.monotonic() > end:
                now = self._progress()
                assert now != before, f"no {what}, no change in {seconds} s: {self.summary()}"
                end, before = time.monotonic() + seconds, now
            assert not self.airflow.ended(), self.airflow.ended()
            time.sleep(1)

    def _progress(self) -> list[tuple[str, str, str, int]]:
        """Return DAG run, task, state and attempt of every task instance."""
        return [
            (run["dag_run_id"], task_id, instance["state"], instance["try_number"])
            for dag_id in DAG_IDS
            for run in self.runs(dag_id)
            for task_id, instances in self.tasks(run).items()
            for instance in instances
        ]

    def ended(self, dag_id: str, count: int) -> bool:
        """Return whether at least `count` runs of a DAG have ended."""
        return sum(run["state"] in ENDED for run in self.runs(dag_id)) >= count

    def summary(self) -> list[tuple[str, str, str]]:
        return [
            (run["dag_id"], run["dag_run_id"], run["state"])
            for dag_id in DAG_IDS
            for run in self.runs(dag_id)
        ]


def debcm(arguments: list[str], variables: dict[str, str]) -> str:
    """Run `debcm` in its own process and return its output."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("debcm")), *arguments],
        env={**os.environ, **variables},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
