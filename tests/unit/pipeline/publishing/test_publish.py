"""A release is published complete or not at all, and only if the gate allows it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline.context import Context
from pipeline.errors import ReleaseError
from pipeline.publishing import publish
from pipeline.publishing.history import rollback
from pipeline.releases import files
from pipeline.releases.current import make_current, read_current
from pipeline.releases.serving import Release
from pipeline.releases.towers import load_towers
from pipeline.releases.verify import verify_folder
from pipeline.training import evaluate, gate
from pipeline.training.dataset import load_dataset
from pipeline.training.gate import ForceRequest


def folder_of(toy) -> Path:
    return toy.store.fetch(f"releases/{toy.run_id}")


def digest(folder: Path) -> dict[str, str]:
    return json.loads((folder / "folder.json").read_text())["sha256"]


def test_an_undecided_run_is_not_published(toy) -> None:
    with pytest.raises(ReleaseError, match="has not decided"):
        publish.run(Context(toy.settings), toy.run_id)
    assert toy.store.names("releases") == []


def test_the_error_about_a_refused_run_names_the_broken_rule(toy) -> None:
    strict = toy.settings.gate.model_copy(update={"min_test_rows": 1000})
    settings = toy.settings.model_copy(update={"gate": strict})
    evaluate.run(Context(settings), toy.run_id)
    gate.decide(Context(settings), toy.run_id)
    with pytest.raises(ReleaseError, match="enough_rows"):
        publish.run(Context(settings), toy.run_id)
    assert read_current(toy.store) is None
    gate.decide(Context(settings), toy.run_id, ForceRequest("Ada", "a demonstration"))
    assert publish.run(Context(settings), toy.run_id).published
    assert read_current(toy.store).promotions[0].why == "forced by Ada: a demonstration"
    manifest = files.read_release_info(folder_of(toy))
    assert manifest.decision["force"] == {"by": "Ada", "reason": "a demonstration"}


def test_publishing_twice_does_nothing(published) -> None:
    before = digest(folder_of(published)), read_current(published.store)
    summary = publish.run(Context(published.settings), published.run_id)
    assert not summary.published
    assert (digest(folder_of(published)), read_current(published.store)) == before


def test_equal_inputs_give_equal_bytes(published, toy, publishing) -> None:
    publishing(toy, toy.run_id)
    assert digest(folder_of(toy)) == digest(folder_of(published))


def test_the_embeddings_are_the_models(published) -> None:
    data = load_dataset(published.store, published.run_id)
    folder = folder_of(published)
    towers = load_towers(folder)
    videos = files.read_table(folder / files.VIDEO, published.run_id, ["video_id"])
    np.testing.assert_array_equal(
        files.read_vectors(folder / files.VIDEO, published.run_id, "embedding"),
        towers.embed_videos(data.training.video),
    )
    assert videos["video_id"].to_pylist() == data.videos["video_id"].to_list()


def test_an_index_that_loses_too_much_is_refused(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate.run(Context(toy.settings), toy.run_id)
    gate.decide(Context(toy.settings), toy.run_id)
    monkeypatch.setattr("pipeline.releases.index._NEIGHBOURS", 2)
    monkeypatch.setattr("pipeline.releases.index._EF_CONSTRUCTION", 1)
    monkeypatch.setattr("pipeline.releases.index._EF_SEARCH", 1)
    release = toy.settings.release.model_copy(update={"flat_index_below": 10})
    settings = toy.settings.model_copy(update={"release": release})
    with pytest.raises(ReleaseError, match="flat_index_below"):
        publish.run(Context(settings), toy.run_id)
    assert toy.store.names("releases") == []
    assert read_current(toy.store) is None


def test_a_run_evaluated_against_an_earlier_champion_is_not_published(
    published, next_run, publishing
) -> None:
    first, second = next_run(published, days=1), next_run(published, days=2)
    evaluate.run(Context(published.settings), first)
    gate.decide(Context(published.settings), first)
    publishing(published, second)
    with pytest.raises(ReleaseError, match="evaluate the run again"):
        publish.run(Context(published.settings), first)
    assert read_current(published.store).run_id == second
    publishing(published, first)
    assert read_current(published.store).run_id == first


def test_a_rolled_back_run_is_not_published_again(published, next_run, publishing) -> None:
    run_id = next_run(published)
    publishing(published, run_id)
    rollback(published.settings, published.store)
    summary = publish.run(Context(published.settings), run_id)
    assert not summary.published
    assert read_current(published.store).run_id == published.run_id


def test_two_concurrent_publishers_make_one_release(toy) -> None:
    evaluate.run(Context(toy.settings), toy.run_id)
    gate.decide(Context(toy.settings), toy.run_id)
    arguments = [str(toy.settings.lake.root), toy.run_id]
    both = [start_publisher(*arguments) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert [p.release_id for p in read_current(toy.store).promotions] == [toy.run_id]
    verify_folder(folder_of(toy))


def start_publisher(root: str, run_id: str) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pipeline.settings.load import load_settings;"
        "from pipeline.context import Context; from pipeline.publishing import publish;"
        "s = load_settings(lake={'root': sys.argv[1]});"
        "publish.run(Context(s), sys.argv[2])"
    )
    return subprocess.Popen([sys.executable, "-c", code, root, run_id])


def test_after_a_killed_publish_the_old_release_is_served_and_a_retry_succeeds(
    published, next_run, tmp_path: Path
) -> None:
    run_id = next_run(published)
    evaluate.run(Context(published.settings), run_id)
    gate.decide(Context(published.settings), run_id)
    releases = Path(published.settings.lake.root) / "releases"
    with start_publisher(published.settings.lake.root, run_id) as process:
        # Kill it while it writes the folder: after the first file and before the last.
        while process.poll() is None and not list(releases.glob(".aside-*/model/*")):
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert published.store.names("releases") == [published.run_id]
    assert Release.open(published.settings.lake.root).release_id == published.run_id
    assert publish.run(Context(published.settings), run_id).published
    assert Release.open(published.settings.lake.root).release_id == run_id
    assert len(published.store.sweep(older_than=9e9)) == 1
    assert sorted(p.name for p in releases.iterdir()) == sorted(
        [published.run_id, run_id, "current.json"]
    )


def test_readers_see_one_complete_release_during_200_switches(
    published, next_run, publishing
) -> None:
    run_id = next_run(published)
    publishing(published, run_id)
    names = [published.run_id, run_id]
    root = Path(published.settings.lake.root)
    done = False

    def read() -> list[str]:
        seen = []
        while not done:
            release = Release.open(root)
            # The answer and all files must be of the same release.
            assert release.folder.name == release.info.release_id
            hits = release.recommend_known("v0000", top=1)
            seen.append(f"{release.release_id} {hits[0].music_id} {hits[0].score:.4f}")
        return seen

    expected = {
        f"{name} {hit.music_id} {hit.score:.4f}"
        for name in names
        for hit in Release(root / "releases" / name).recommend_known("v0000", top=1)
    }
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for switch in range(200):
            make_current(published.store, names[switch % 2], "switch", lambda _: None)
        done = True
        seen = [reader.result() for reader in readers]
    assert all(seen)
    assert {answer for answers in seen for answer in answers} <= expected
    assert len(read_current(published.store).promotions) == 202
