"""Serving needs only the release's files, answers exactly, and is thread-safe."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from features import MediaError, Reason
from pipeline.errors import ProvenanceError, ReleaseError
from pipeline.releases import files
from pipeline.releases.serving import Release, current_release
from pipeline.releases.verify import verify_folder
from pipeline.storage.folder import CHECKSUMS, write_checksums
from pipeline.training.dataset import load_dataset


@pytest.fixture
def release(published) -> Release:
    return Release.open(published.settings.lake.root)


def features_of(published, row: int) -> np.ndarray:
    return load_dataset(published.store, published.run_id).training.video[row]


def test_a_release_opens_by_lake_root_releases_folder_or_its_own_folder(published) -> None:
    root = Path(published.settings.lake.root)
    for path in (str(root), root / "releases", root / "releases" / published.run_id):
        assert Release.open(path).release_id == published.run_id


def test_a_server_can_follow_the_pointer(published, next_run, publishing) -> None:
    root = published.settings.lake.root
    release = Release.open(root)
    assert current_release(root) == release.release_id == published.run_id
    run_id = next_run(published)
    publishing(published, run_id)
    assert current_release(Path(root) / "releases") == run_id != release.release_id
    assert release.recommend_known("v0000"), "an open release keeps answering"


def test_the_error_names_a_damaged_pointer(published) -> None:
    pointer = Path(published.settings.lake.root) / "releases" / "current.json"
    pointer.write_text('{"release')
    with pytest.raises(ReleaseError, match=r"damaged pointer.*"):
        Release.open(published.settings.lake.root)


def test_without_a_release_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no release has been published"):
        Release.open(tmp_path)


def test_a_lake_in_object_storage_is_opened_through_the_store() -> None:
    for ask in (Release.open, current_release):
        with pytest.raises(ReleaseError, match=r"(?s)\(s3://lake/debcm\).*fetch\(.releases/ID.\)`"):
            ask("s3://lake/debcm")


def test_the_recommendations_are_those_of_the_model(published, release: Release) -> None:
    data = load_dataset(published.store, published.run_id)
    from models import Model

    student = Model.load(published.store.fetch(f"runs/{published.run_id}/student"))
    rows, scores = student.rank(
        data.training.video[:5], data.training.music, data.training.genre_group, 10
    )
    for row in range(5):
        hits = release.search(release.embed(data.training.video[row]), top=10)
        assert [hit.music_id for hit in hits] == data.music["music_id"].gather(rows[row]).to_list()
        np.testing.assert_allclose([hit.score for hit in hits], scores[row], atol=1e-4)
        assert [hit.rank for hit in hits] == list(range(1, 11))
        known = release.recommend_known(data.videos["video_id"][row], top=10)
        assert [hit.music_id for hit in known] == [hit.music_id for hit in hits]


def test_the_score_is_the_unadjusted_score_minus_the_habits(published, release: Release) -> None:
    from models import Model

    data = load_dataset(published.store, published.run_id).training
    student = Model.load(published.store.fetch(f"runs/{published.run_id}/student"))
    naive = (
        student.embed_videos(data.video[:1])
        @ student.embed_music(data.music, data.genre_group, adjusted=False).T
    )
    hits = release.search(release.embed(data.video[0]), top=120)
    assert any(abs(hit.taken_away) > 1e-3 for hit in hits)
    for hit in hits:
        assert hit.unadjusted == pytest.approx(naive[0][int(hit.music_id[1:])], abs=1e-4)
        assert hit.score == pytest.approx(hit.unadjusted - hit.taken_away, abs=1e-5)


def test_explain_counts_the_rank_among_all_tracks(published, release: Release) -> None:
    embedding = release.embed(features_of(published, 3))
    hits = release.search(embedding, top=120)
    for hit in (hits[0], hits[57]):
        found = release.explain(embedding, hit.music_id)
        assert found.rank == hit.rank
        assert found.score == pytest.approx(hit.score, abs=1e-5)
    with pytest.raises(ReleaseError, match="no track 'm999'"):
        release.explain(embedding, "m999")


def test_filters_by_genre_group_genre_and_exclusion(published, release: Release) -> None:
    embedding = release.embed(features_of(published, 0))
    everything = release.search(embedding, top=120)
    for genre in ("g2", "genre g2", " Genre G2 "):
        expected = [hit.music_id for hit in everything if hit.genre_group == "g2"]
        found = release.search(embedding, top=120, genre=genre)
        assert [hit.music_id for hit in found] == expected
    first, second, third = (hit.music_id for hit in everything[:3])
    found = release.search(embedding, top=1, exclude=[first, second, "unknown"])
    assert found[0].music_id == third
    with pytest.raises(ReleaseError, match="no genre or genre group 'polka'"):
        release.search(embedding, genre="polka")


def test_excluding_all_tracks_gives_an_empty_list(published, release: Release) -> None:
    embedding = release.embed(features_of(published, 0))
    everyone = [hit.music_id for hit in release.search(embedding, top=120)]
    assert release.search(embedding, exclude=everyone) == []


def test_wrong_features_are_refused(published, release: Release) -> None:
    features = features_of(published, 0)
    with pytest.raises(ProvenanceError, match="other@1"):
        release.embed(features, extractor="other@1")
    release.embed(features, extractor=release.info.visual_extractor)
    with pytest.raises(ReleaseError, match=r"shape \(24,\), got \(23,\)"):
        release.embed(features[:-1])
    with pytest.raises(ReleaseError, match="embedding must have shape"):
        release.search(features)


def test_the_error_names_an_unknown_video(release: Release) -> None:
    with pytest.raises(ReleaseError, match="no video 'nobody'"):
        release.recommend_known("nobody")


def changed_info(published, tmp_path: Path, **changes: object) -> Path:
    """Copy the release without its checksums, with a changed manifest.json."""
    copy = tmp_path / "changed"
    shutil.copytree(published.store.fetch(f"releases/{published.run_id}"), copy)
    (copy / CHECKSUMS).unlink()
    document = json.loads((copy / files.INFO_FILE).read_text())
    (copy / files.INFO_FILE).write_text(json.dumps(document | changes))
    return copy


def test_this_machines_features_are_refused_by_a_release_of_another_extractor(
    published, tmp_path: Path
) -> None:
    copy = changed_info(published, tmp_path, visual_extractor="efficientnet-lite0-16f@old")
    with pytest.raises(ProvenanceError, match="lite0-16f@old"):
        Release(copy).recommend(tmp_path / "clip.mp4")


def test_a_release_of_an_older_version_still_answers_from_features(
    published, tmp_path: Path
) -> None:
    copy = changed_info(
        published, tmp_path, visual={"gone": 1}, audio={"gone": 1}, limits={"gone": 1}
    )
    release = Release(copy)
    assert release.search(release.embed(features_of(published, 0)))
    with pytest.raises(ProvenanceError, match="this version cannot extract"):
        release.recommend(tmp_path / "clip.mp4")


def test_an_older_version_of_the_models_still_verifies(published) -> None:
    folder = published.store.fetch(f"releases/{published.run_id}")
    description = folder / "model" / "model.json"
    description.write_text(description.read_text().replace('"config": {', '"config": {"gone": 1,'))
    write_checksums(folder)
    assert verify_folder(folder).queries == 32


def test_one_flipped_bit_in_any_file_is_refused(published, tmp_path: Path) -> None:
    copy = changed_info(published, tmp_path)
    write_checksums(copy)
    assert Release.open(copy).release_id
    for path in sorted(p for p in copy.rglob("*") if p.is_file() and p.name != CHECKSUMS):
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            with pytest.raises(ProvenanceError, match=re.escape(str(path))):
                Release.open(copy)
        path.unlink()
        with pytest.raises((ProvenanceError, ReleaseError), match=path.name):
            Release.open(copy)
        path.write_bytes(whole)
    (copy / CHECKSUMS).unlink()
    with pytest.raises(ProvenanceError, match=CHECKSUMS):
        Release.open(copy)


def test_a_tower_of_another_run_is_refused(published, tmp_path: Path) -> None:
    copy = changed_info(published, tmp_path)
    import onnx

    document = onnx.load(copy / "video_tower.onnx")
    document.metadata_props[0].value = "2020-01-01-other"
    onnx.save(document, copy / "video_tower.onnx")
    with pytest.raises(ReleaseError, match="2020-01-01-other"):
        Release(copy)


def test_an_index_of_another_release_is_refused(published, tmp_path: Path) -> None:
    from pipeline.releases.index import build_index, write_index

    copy = changed_info(published, tmp_path)
    dim = Release(copy).info.dim
    write_index(build_index(np.zeros((3, dim), np.float32), 10), copy / files.INDEX)
    with pytest.raises(ReleaseError, match="holds 3 vectors"):
        Release(copy)


def test_threads_get_the_same_answers_as_one_thread(published, release: Release) -> None:
    video = load_dataset(published.store, published.run_id).training.video[:64]

    def ask(row: int) -> list[tuple[str, float]]:
        hits = release.search(
            release.embed(video[row % 64]), genre=f"g{row % 6}" if row % 2 else None
        )
        return [(hit.music_id, hit.score) for hit in hits]

    rows = list(range(400))
    alone = [ask(row) for row in rows]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, rows)) == alone


def test_a_narrow_filter_on_an_approximate_index_is_searched_exactly(
    published, tmp_path: Path
) -> None:
    from pipeline.releases.index import build_index, write_index

    copy = changed_info(published, tmp_path, index="hnsw")
    music = files.read_vectors(copy / files.MUSIC, published.run_id, "embedding")
    write_index(build_index(music, 10), copy / files.INDEX)
    release = Release(copy)
    exact = Release(published.store.fetch(f"releases/{published.run_id}"))
    embedding = exact.embed(features_of(published, 0))
    all_but_three = [hit.music_id for hit in exact.search(embedding, top=117)]
    expected = exact.search(embedding, top=10, exclude=all_but_three)
    found = release.search(embedding, top=10, exclude=all_but_three)
    assert len(found) == 3
    assert [hit.music_id for hit in found] == [hit.music_id for hit in expected]


def test_serving_loads_neither_torch_nor_the_lake(published) -> None:
    code = (
        "import sys; from pipeline.releases.serving import Release;"
        "r = Release.open(sys.argv[1]); print(len(r.recommend_known('v0000')));"
        "print(sorted({'torch', 'deltalake', 'polars', 'airflow', 'models.train', 'librosa', 'av'}"
        " & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, published.settings.lake.root],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split("\n")[:2] == ["10", "[]"]


def test_a_missing_file_gives_its_reason(published, release: Release, tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        release.recommend(tmp_path / "nowhere.mp4")
    assert caught.value.reason == Reason.MISSING


def test_the_former_name_of_info_still_works(release: Release) -> None:
    assert release.manifest is release.info
