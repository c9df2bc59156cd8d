"""Checks what docs/security.md says about the code, the landing folder and secrets."""

from __future__ import annotations

import ast
import configparser
import datetime as dt
import http.server
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.context import Context
from pipeline.errors import ManifestError
from pipeline.ingestion import ingest
from pipeline.ingestion.landing_day import LandingDay
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.orchestration import local_airflow
from pipeline.settings.load import Settings
from pipeline.settings.sections import LakeSettings, LandingSettings
from tests.helpers import deliveries
from tests.helpers.deliveries import video

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDERS = (
    *("dags", "plugins", "debcm", "pipeline", "features", "models"),
    *("simulation", "benchmarks", "tools", "examples"),
)
DAY = dt.date(2026, 3, 1)
SECRET = "the-secret-that-a-playlist-points-at"
FORBIDDEN_IMPORTS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "tempfile.mktemp",
    "torch.save",
    "pl.read_database",
}


def trees() -> Iterator[tuple[Path, ast.AST]]:
    files = [path for folder in FOLDERS for path in sorted((CHECKOUT / folder).rglob("*.py"))]
    assert len(files) > 80
    for path in files:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield every call in the source: place, dotted name, node."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(CHECKOUT)}:{node.lineno}", ast.unparse(node.func), node


def test_no_code_executes_data() -> None:
    for path, tree in trees():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & FORBIDDEN_IMPORTS, path
    assert [(place, name) for place, name, _ in calls() if name in FORBIDDEN_CALLS] == []
    for place, name, node in calls():
        if name == "torch.load":
            assert "weights_only=True" in ast.unparse(node), place


def test_no_shell_is_started() -> None:
    started = 0
    for place, name, node in calls():
        assert "shell" not in {keyword.arg for keyword in node.keywords}, place
        if name in {"subprocess.run", "subprocess.Popen"}:
            started += 1
            # A list, or a variable with one; never a string that a shell would split.
            assert not isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp), place
    assert started >= 4


def test_sql_is_never_built_from_strings() -> None:
    """Statements are literals or composed by psycopg2; predicates quote every value."""
    statements = predicates = 0
    for place, name, node in calls():
        if name.endswith("cursor.execute"):
            statements += 1
            assert not isinstance(node.args[0], ast.JoinedStr | ast.BinOp), place
        if name.endswith("lake.delete") and isinstance(node.args[1], ast.JoinedStr):
            predicates += 1
            for part in node.args[1].values:
                if isinstance(part, ast.FormattedValue):
                    assert "sql_literal" in ast.unparse(part), place
    assert statements > 5
    assert predicates > 0


# --- landing ---------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        lake=LakeSettings(root=str(tmp_path / "lake")),
        landing=LandingSettings(root=tmp_path / "landing", reject_share=1.0),
    )


def write_day(root: Path, media_paths: list[str]) -> Path:
    """Write a landing day without music, whose videos have these media paths."""
    videos = [video(f"v{row}", media_path=path) for row, path in enumerate(media_paths)]
    return deliveries.write_day(root, DAY, videos, [])


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A web server on loopback, and the paths that were requested from it."""
    requested: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield int(server.server_address[1]), requested
    server.shutdown()
    thread.join()
    server.server_close()


def playlists(target: str) -> dict[str, str]:
    """Return playlists that point a media library to another file."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{target}'\n",
        "dash": f"<?xml version='1.0'?><MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>",
        "smil": f"<smil><body><video src='{target}'/></body></smil>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    }


def test_playlists_that_pose_as_media_are_not_followed(
    settings: Settings, tmp_path: Path, listener: tuple[int, list[str]]
) -> None:
    port, requested = listener
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    targets = {"file": str(secret), "url": f"file://{secret}", "web": f"http://127.0.0.1:{port}/a"}
    disguised = {
        f"media/{kind}_{where}.mp4": text
        for where, target in targets.items()
        for kind, text in playlists(target).items()
    }
    folder = write_day(settings.landing.root, list(disguised))
    for name, text in disguised.items():
        (folder / name).write_text(text)
    lake = Lake(settings.lake)
    summary = ingest.run(Context(settings), DAY)
    assert summary.accepted == 0
    assert sum(summary.rejected.values()) == len(disguised)
    assert set(summary.rejected) <= {"unsupported_container", "undecodable"}
    assert requested == []
    for table in TABLES:
        assert SECRET not in str(lake.read(table).rows())


def test_paths_that_leave_the_day_are_not_opened(settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "film.mp4").write_text(SECRET)
    folder = write_day(
        settings.landing.root,
        [
            "../../outside/film.mp4",
            str(outside / "film.mp4"),
            "media/../../../outside/film.mp4",
            "media/link.mp4",
            "linked/film.mp4",
            "file:///etc/passwd",
            "http://127.0.0.1/film.mp4",
            "concat:media/a|media/b",
        ],
    )
    (folder / "media" / "link.mp4").symlink_to(outside / "film.mp4")
    (folder / "linked").symlink_to(outside)
    summary = ingest.run(Context(settings), DAY)
    assert summary.accepted == 0
    assert summary.rejected == {"outside_landing": 5, "missing": 3}


@pytest.mark.parametrize("what", ["manifest", "day"])
def test_links_in_place_of_manifests_are_refused(settings: Settings, what: str) -> None:
    folder = write_day(settings.landing.root, [])
    path = folder / "videos.csv" if what == "manifest" else folder
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(aside)
    with pytest.raises(ManifestError, match="symbolic link"):
        LandingDay(settings.landing.root, DAY).manifest("videos")


# --- secrets and servers ---------------------------------------------------------------------


def written(home: Path) -> list[Path]:
    """Return the files that are not empty; lock files are."""
    files = [path for path in home.rglob("*") if path.is_file() and path.stat().st_size]
    assert files
    return files


def test_generated_secrets_are_long_private_and_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "airflow"
    with caplog.at_level(logging.DEBUG):
        env = local_airflow.environment(home)
    names = (
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__API__SECRET_KEY",
        "AIRFLOW__CORE__FERNET_KEY",
    )
    kept = written(home)
    for name in names:
        assert len(env[name]) >= 32
        assert env[name] not in caplog.text
    for path in kept:
        assert path.stat().st_mode & 0o077 == 0, path
    assert {env[name] for name in names} == {
        local_airflow.environment(home)[name] for name in names
    }
    assert env[names[0]] != local_airflow.environment(tmp_path / "other")[names[0]]


def test_secrets_file_is_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        local_airflow.environment(tmp_path)
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o077 == 0 for path in written(tmp_path))


def test_airflow_listens_only_on_loopback() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(CHECKOUT / "airflow.cfg")
    assert config["api"]["host"] == "127.0.0.1"
    for path, tree in trees():
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.Constant) and node.value in {"0.0.0.0", "::"}), path


def test_no_secret_is_committed() -> None:
    config = (CHECKOUT / "airflow.cfg").read_text()
    given = r"^(jwt_secret|secret_key|fernet_key|password)\s*=\s*\S"
    assert not re.search(given, config, re.MULTILINE)


@pytest.mark.parametrize("package", ["features", "pipeline"])
def test_onnx_runtime_sends_no_telemetry(package: str, tmp_path: Path) -> None:
    """Its telemetry writes an id of this machine to a file below HOME before it sends anything."""
    script = (
        f"import {package}\n"
        "import onnxruntime\n"
        "from onnx import TensorProto, helper\n"
        "names = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in 'xy']\n"
        "node = helper.make_node('Abs', ['x'], ['y'])\n"
        "graph = helper.make_graph([node], 'g', names[:1], names[1:])\n"
        "model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])\n"
        "model.ir_version = 9\n"
        "onnxruntime.InferenceSession(model.SerializeToString())\n"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    subprocess.run([sys.executable, "-c", script], env=env, check=True)
    assert [path for path in tmp_path.rglob("*") if "icrosoft" in path.name] == []
