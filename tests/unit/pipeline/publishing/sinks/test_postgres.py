"""The PostgreSQL sink against real servers: one with pgvector, one without."""

from __future__ import annotations

import dataclasses
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.context import Context
from pipeline.publishing import publish
from pipeline.publishing.history import rollback
from pipeline.publishing.sinks.base import ForeignTableError, SinkError
from pipeline.publishing.sinks.postgres import PostgresSink
from pipeline.releases import files
from pipeline.releases.current import read_current
from pipeline.releases.serving import Release

pytestmark = pytest.mark.services


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binaries(kind: str) -> Path:
    if kind == "pgvector":
        pgserver = pytest.importorskip("pgserver")
        return Path(pgserver.__file__).parent / "pginstall" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("needs the Debian package postgresql")
    return found[-1]


def as_user() -> dict[str, object]:
    """PostgreSQL refuses to run as root, so root runs it as the user nobody."""
    if os.getuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module", params=["pgvector", "plain arrays"])
def server(request, tmp_path_factory) -> Iterator[tuple[str, str]]:
    kind = request.param
    folder = binaries(kind)
    # Only its owner may enter pytest's folder.
    home = Path(f"/tmp/debcm-postgres-{os.getpid()}-{kind[:2]}")
    home.mkdir()
    if not os.getuid():
        shutil.chown(home, "nobody")
    data, port = home / "data", free_port()
    user = as_user()
    if kind == "pgvector":
        # The user nobody may not be allowed to enter the virtual environment.
        package = folder.parents[1]
        for name in (package.name, f"{package.name}.libs"):
            shutil.copytree(package.parent / name, home / name, symlinks=True)
        folder = home / package.name / folder.relative_to(package)
    subprocess.run(
        [folder / "initdb", "-D", data, "-U", "debcm", "--auth=trust", "-E", "UTF8"],
        check=True,
        capture_output=True,
        **user,
    )
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [folder / "postgres", "-D", data, "-p", str(port), "-k", str(home), "-F"],
            stdout=log,
            stderr=log,
            cwd=home,
            **user,
        )
        connection = f"host=127.0.0.1 port={port} user=debcm dbname=postgres"
        try:
            wait_for(connection)
            if kind == "pgvector":
                execute(connection, "CREATE EXTENSION vector")
            yield kind, connection
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
            shutil.rmtree(home)


def wait_for(connection: str) -> None:
    import psycopg2

    for _ in range(100):
        try:
            psycopg2.connect(connection).close()
        except psycopg2.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(connection)


def ask(connection: str, query: str, *parameters: object) -> list[tuple]:
    import psycopg2

    with psycopg2.connect(connection) as session, session.cursor() as cursor:
        cursor.execute(query, parameters)
        rows = cursor.fetchall()
    session.close()
    return rows


def test_views_serve_the_current_release_and_keep_their_grants(
    server, published, next_run, publishing
) -> None:
    kind, connection = server
    release = published.settings.release.model_copy(update={"postgres": connection})
    settings = published.settings.model_copy(update={"release": release})
    toy = dataclasses.replace(published, settings=settings)
    publish.run(Context(toy.settings), toy.run_id)
    check(kind, connection, toy)
    execute(connection, "CREATE ROLE reader")
    execute(connection, "GRANT SELECT ON debcm_music TO reader")
    publishing(toy, next_run(toy))
    check(kind, connection, toy)
    rollback(toy.settings, toy.store)
    check(kind, connection, toy)
    assert ask(connection, "SELECT has_table_privilege('reader', 'debcm_music', 'SELECT')") == [
        (True,)
    ]


def test_tables_of_other_users_are_kept(server, published, next_run, publishing) -> None:
    _, connection = server
    for name in ("debcm_release", "debcm_music", "debcm_video"):
        drop = "VIEW" if name != "debcm_release" else "TABLE"
        execute(connection, f"DROP {drop} IF EXISTS {name}")
    release = published.settings.release.model_copy(update={"postgres": connection})
    toy = dataclasses.replace(
        published, settings=published.settings.model_copy(update={"release": release})
    )
    theirs = ["debcm_music_archive", "debcm_video_2020-01-01-abc", "users"]
    for name in theirs:
        execute(connection, f'CREATE TABLE "{name}" (x int)')
    publish.run(Context(toy.settings), toy.run_id)
    publishing(toy, next_run(toy))
    rollback(toy.settings, toy.store)
    tables = {
        name
        for (name,) in ask(
            connection, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
    }
    ours = {"debcm_release", f"debcm_music_{toy.run_id}", f"debcm_video_{toy.run_id}"}
    assert tables == {*theirs, *ours}
    for name in theirs:
        execute(connection, f'DROP TABLE "{name}"')


@pytest.mark.parametrize("name", ["debcm_release", "debcm_music", "debcm_music_RUN"])
def test_a_foreign_table_of_the_same_name_is_not_replaced(server, published, name: str) -> None:
    _, connection = server
    schema = f"s{abs(hash(name)) % 10**9}"
    execute(connection, f"CREATE SCHEMA {schema}")
    name = name.replace("RUN", published.run_id)
    execute(connection, f'CREATE TABLE {schema}."{name}" (x int)')
    own = f"{connection} options='-c search_path={schema},public'"
    release = published.settings.release.model_copy(update={"postgres": own})
    settings = published.settings.model_copy(update={"release": release})
    with pytest.raises(ForeignTableError, match=name):
        publish.run(Context(settings), published.run_id)
    assert ask(connection, f'SELECT count(*) FROM {schema}."{name}"') == [(0,)]
    execute(connection, f"DROP SCHEMA {schema} CASCADE")


def execute(connection: str, statement: str) -> None:
    import psycopg2

    session = psycopg2.connect(connection)
    session.autocommit = True  # a database cannot be created in a transaction
    with session.cursor() as cursor:
        cursor.execute(statement)
    session.close()


def check(kind: str, connection: str, toy) -> None:
    release_id = read_current(toy.store).release_id
    assert PostgresSink(connection).current() == release_id
    tables = ask(connection, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {name for (name,) in tables} == {
        "debcm_release",
        f"debcm_music_{release_id}",
        f"debcm_video_{release_id}",
    }
    hits = Release.open(toy.settings.lake.root).recommend_known("v0003", top=5)
    if kind == "pgvector":
        rows = ask(
            connection,
            "SELECT music_id, title FROM debcm_music ORDER BY embedding <#> "
            "(SELECT embedding FROM debcm_video WHERE video_id = %s) LIMIT 5",
            "v0003",
        )
        assert rows == [(hit.music_id, hit.title) for hit in hits]
    else:
        (video,) = ask(connection, "SELECT embedding FROM debcm_video WHERE video_id = 'v0003'")
        rows = ask(connection, "SELECT music_id, embedding FROM debcm_music")
        scores = {name: float(np.dot(vector, video[0])) for name, vector in rows}
        best = sorted(scores, key=lambda name: -scores[name])[:5]
        assert best == [hit.music_id for hit in hits]


def test_the_type_of_embeddings_stays_that_of_the_views(server, tmp_path: Path) -> None:
    """Fault 39: the type followed the extensions that the server offers, and created one."""
    kind, connection = server
    execute(connection, "CREATE DATABASE plain")
    plain = connection.replace("dbname=postgres", "dbname=plain")
    sink = PostgresSink(plain)
    types = "SELECT DISTINCT pg_typeof(embedding)::text FROM debcm_music"
    for number, release_id in enumerate(["2026-03-01-a", "2026-03-02-b"]):
        sink.stage(small_release(tmp_path, release_id))
        if number == 1 and kind == "pgvector":
            execute(plain, "CREATE EXTENSION vector")
        sink.activate(release_id)
        assert sink.current() == release_id
        assert ask(plain, types) == [("real[]",)]
    installed = ask(plain, "SELECT count(*) FROM pg_extension WHERE extname = 'vector'")
    assert installed == [(1 if kind == "pgvector" else 0,)]
    sink.stage(small_release(tmp_path, "2026-03-03-c"))
    sink.activate("2026-03-03-c")
    assert ask(plain, types) == [("real[]",)]
    # As docs/releases.md says.
    execute(plain, "DROP VIEW debcm_music, debcm_video")
    execute(plain, "DROP TABLE debcm_release")
    assert sink.current() is None
    sink.stage(tmp_path / "2026-03-03-c")
    sink.activate("2026-03-03-c")
    assert ask(plain, types) == [("vector" if kind == "pgvector" else "real[]",)]
    execute(connection, "DROP DATABASE plain")


def small_release(above: Path, release_id: str) -> Path:
    """Write what a sink reads of a release: one track and one video of dimension 2."""
    folder = above / release_id
    folder.mkdir()
    vectors = {"embedding": np.ones((1, 2), dtype=np.float32)}
    texts = {name: ["x"] for name in files.MUSIC_TEXTS} | {"cold": [False]}
    files.write_table(folder / files.MUSIC, release_id, pa.table(texts), vectors)
    files.write_table(folder / files.VIDEO, release_id, pa.table({"video_id": ["v"]}), vectors)
    info = {
        "format": files.FORMAT,
        "release_id": release_id,
        "run_id": release_id,
        "as_of": "2026-03-01",
        "dim": 2,
        "groups": ["pop", "other"],
        "music": 1,
        "videos": 1,
        "index": "flat",
        "previous": None,
    }
    info |= dict.fromkeys(("visual_extractor", "audio_extractor"), "e@1")
    info |= {name: {} for name in ("visual", "audio", "limits", "decision", "inputs", "packages")}
    files.write_json(folder / files.INFO_FILE, info)
    return folder


def test_an_unavailable_server_is_a_transient_error() -> None:
    sink = PostgresSink(f"host=127.0.0.1 port={free_port()} user=debcm dbname=postgres")
    with pytest.raises(SinkError, match="postgres"):
        sink.current()
