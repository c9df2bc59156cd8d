"""Settings come from a file and environment variables, and nothing in them is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_settings import TomlConfigSettingsSource

from pipeline.settings import load
from pipeline.settings.load import Settings, SettingsError, load_settings
from pipeline.settings.sections import CandidateExtractor


def test_a_variable_overrides_the_file_and_the_file_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "debcm.toml"
    file.write_text("seed = 1\n[landing]\nreject_share = 0.5\nwait_hours = 2\n")
    monkeypatch.setenv("DEBCM_LANDING__REJECT_SHARE", "0.75")
    settings = load_settings()
    assert settings.seed == 1
    assert settings.landing.reject_share == 0.75
    assert settings.landing.wait_hours == 2
    assert settings.extract.workers == Settings().extract.workers


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "night.toml"
    file.write_text('[lake]\nroot = "../lake"\n[landing]\nroot = "in"\n')
    monkeypatch.setenv("DEBCM_CONFIG", str(file))
    settings = load_settings()
    assert settings.lake.root == str(tmp_path / "lake")
    assert settings.landing.root == tmp_path / "etc" / "in"


def test_every_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = f'{{name = "n", path = "n.onnx", sha256 = "{"0" * 64}", dim = 2}}'
    file = tmp_path / "debcm.toml"
    file.write_text(
        f'[release]\nlancedb = "lance"\n[visual]\nencoder = {encoder}\n'
        f"[candidates.new.audio]\nencoder = {encoder}\n"
    )
    monkeypatch.setenv("DEBCM_CONFIG", str(file))
    settings = load_settings()
    assert settings.release.lancedb == str(tmp_path / "lance")
    assert settings.visual.encoder is not None
    assert settings.visual.encoder.path == tmp_path / "n.onnx"
    audio = settings.candidates["new"].audio
    assert audio is not None
    assert audio.encoder is not None
    assert audio.encoder.path == tmp_path / "n.onnx"


def test_a_root_in_object_storage_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", "s3://bucket/lake")
    assert load_settings().lake.root == "s3://bucket/lake"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede = 1", "sede"),
        ("[landing]\nreject_shar = 0.1", "landing.reject_shar"),
        ("[landing]\nreject_share = 7", "landing.reject_share"),
        ("[extract]\nworkers = 'two'", "extract.workers"),
        ("[lake.storage_options]\naws_endpoint = 'x'", "storage_options.*aws_endpoint: unknown"),
        ("[split]\nvalidation_share = 0.5\ntest_share = 0.5", "split: .*too few rows for training"),
        ("seed =", "not valid TOML"),
        ("seed = '\xff'", "not valid TOML"),
        ("seed = -1", "seed: .*greater than or equal to 0"),
        ("[model]\nseed = 1", "model.seed is not used"),
        ("[lake]\nroot = ''", "lake.root: "),
        ("[lake]\nroot = 'gs://bucket/lake'", "lake.root: a folder or s3://bucket/prefix expected"),
        ("[lake]\nroot = 's3://'", "lake.root: a folder or s3://bucket/prefix expected"),
        ("[landing]\nroot = ''", "landing.root: a folder expected"),
        ("[landing]\nlookback_days = 0", "landing.lookback_days: .*greater than or equal to 1"),
        ("[landing]\nwait_hours = inf", "landing.wait_hours: .*finite"),
        ("[genres.groups]", "genres.groups: .*at least 1"),
        ("[genres.groups]\npop = []", "genres.groups: .*'pop' has no genres"),
        ("[genres.groups]\nother = ['pop']", "genres.groups: .*'other'"),
        ("[extract]\nsegment_seconds = 2", "extract: min_segment_seconds is above"),
        ("[candidates.current.visual]\nframes = 4", "candidates: 'current' cannot name"),
        ("[candidates.new]", "candidates.new: neither visual nor audio"),
        ("[split]\ntest_share = 0", "split.test_share: .*greater than 0"),
        ("[release]\nkeep = 0", "release.keep: .*greater than or equal to 2"),
        ("[release]\npostgres = 'music'", "release.postgres: a libpq connection string"),
        ("[alerts]\nwebhook = 'chat.example.org/secret'", "alerts.webhook: .*http://"),
        ("[alerts]\nemail_to = ['night']", "alerts.email_to.0: a mail address"),
        ("[schedule]\nnightly = '0 * * * *'", "schedule.nightly: a daily cron"),
        ("[schedule]\nnightly = '60 2 * * *'", "schedule.nightly: a daily cron"),
        ("[schedule]\nupkeep = '0 25 * * *'", "schedule.upkeep: a daily cron"),
        # Fault 40: these settings were accepted, and meant something else.
        ("[landing]\nroot = 's3://bucket/in'", "landing.root: a path on this machine expected"),
        ("[visual]\nencoder = {ENCODER, path = 's3://b/n'}", "visual.encoder.path: a path on"),
        ("[lake]\nroot = '$HOME/lake'", r"lake.root: variables such as \$HOME are not replaced"),
        ("[landing]\nroot = '${HOME}/in'", r"landing.root: variables such as \$HOME"),
        ("[release]\nlancedb = '$HOME/l'", r"release.lancedb: variables such as \$HOME"),
        (
            "[candidates.new.audio]\nencoder = {ENCODER, path = '$X/n'}",
            "candidates.new.audio.encoder.path: variables",
        ),
        ("[lake]\nroot = '~nosuchaccount/lake'", "lake.root: write the path itself instead of ~"),
        ("[lake]\nroot = 'a'\n[landing]\nroot = 'a'", "lake.root: the folder is landing.root or"),
        ("[lake]\nroot = 'a/b'\n[landing]\nroot = 'a'", "lake.root: the folder is landing.root"),
        ("[release]\nlancedb = 'landing/l'", "release.lancedb: the folder is landing.root or in"),
        ("[release]\nlancedb = 'lake/'", "release.lancedb: this is the lake"),
        ("[model]\ndevice = 'gpu'", "model.device: a torch device expected: cpu, cuda"),
        ("[genres.groups]\nPop = ['pop']\npop = ['k-pop']", "genres.groups: .*case: Pop, pop"),
        ("[genres.groups]\n' pop' = ['pop']", "genres.groups: ' pop' .*remove the blanks"),
        ("[audio]\nhop = 4096", "audio: hop is (above|larger than) n_fft"),
        ("[visual]\nblocks = ['light', 'light']", "visual.blocks: named twice: light"),
    ],
)
def test_an_invalid_file_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    text = text.replace("ENCODER", f"name = 'n', sha256 = '{'0' * 64}', dim = 2")
    (tmp_path / "debcm.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings()
    assert "debcm.toml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        # A night that waits longer than its deadline is reported as late.
        "[landing]\nwait_hours = 12\n[schedule]\ndeadline_hours = 4",
        "[extract]\nsegment_seconds = 3\nmin_segment_seconds = 3",
        "[lake]\nkeep_versions_days = 0",
        "[release]\npostgres = 'postgresql://reader@db.example.org/music'",
        "[release]\npostgres = 'host=db.example.org dbname=music'",
        "[release]\nlancedb = 's3://bucket'",
        "[release]\npostgres = ''\nlancedb = ''\n[alerts]\nwebhook = ''",
        "[schedule]\nnightly = '07 09 * * *'\nupkeep = '59 23 * * *'",
        "[genres.groups]\nmusic = ['pop']",
        "[lake]\nroot = 'a$1'",
        "[lake]\nroot = 'data'\n[landing]\nroot = 'data/landing'",
        "[lake]\nroot = 'landing-lake'",
        "[model]\ndevice = 'cuda:1'",
    ],
)
def test_unusual_but_valid_settings_are_accepted(tmp_path: Path, text: str) -> None:
    (tmp_path / "debcm.toml").write_text(text)
    load_settings()


@pytest.mark.parametrize(("wait", "warned"), [(3.9, False), (4, True), (12, True)])
def test_a_wait_beyond_the_deadline_gives_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wait: float, warned: bool
) -> None:
    text = f"[landing]\nwait_hours = {wait}\n[schedule]\ndeadline_hours = 4"
    (tmp_path / "debcm.toml").write_text(text)
    load._warn_if_waits_are_late.cache_clear()
    for _ in range(2):
        load_settings()
    assert caplog.text.count("landing.wait_hours") == warned
    assert ("landing.wait_hours" in caplog.text) == warned


def test_a_variable_with_such_a_path_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBCM_LANDING__ROOT", "s3://bucket/in")
    with pytest.raises(SettingsError, match=r"^\$DEBCM_LANDING__ROOT: landing.root: a path on"):
        load_settings()
    monkeypatch.setenv("DEBCM_CONFIG", "~nosuchaccount/debcm.toml")
    with pytest.raises(SettingsError, match="DEBCM_CONFIG cannot be used"):
        load_settings()


def test_a_message_does_not_contain_a_secret(tmp_path: Path) -> None:
    (tmp_path / "debcm.toml").write_text("[alerts]\nwebhook = 'ftp://chat.example.org/T0K3N'")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "T0K3N" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"), [("DEBCM_LAKE", "s3://b"), ("DEBCM_ALERTS__EMAIL_TO", "a@b.c")]
)
def test_a_list_or_table_in_a_variable_is_json(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match="JSON"):
        load_settings()
    monkeypatch.setenv("DEBCM_ALERTS__EMAIL_TO", '["a@b.c"]')
    monkeypatch.setenv("DEBCM_LAKE", '{"root": "s3://b"}')
    settings = load_settings()
    assert settings.alerts.email_to == ["a@b.c"]
    assert settings.lake.root == "s3://b"


def test_an_unreadable_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "debcm.toml").write_text("seed = 1")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(TomlConfigSettingsSource, "__init__", refuse)
    with pytest.raises(SettingsError, match=r"cannot be read: Permission denied .*debcm.toml"):
        load_settings()


def test_a_missing_file_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBCM_CONFIG", "nowhere.toml")
    with pytest.raises(SettingsError, match=r"nowhere.toml"):
        load_settings()


def test_a_candidate_replaces_only_the_extractors_that_it_sets() -> None:
    fewer = Settings().visual.model_copy(update={"frames": 4})
    settings = Settings(candidates={"fewer": CandidateExtractor(visual=fewer)})
    assert settings.with_extractor("fewer").visual.frames == 4
    assert settings.with_extractor("fewer").audio == settings.audio
    assert settings.with_extractor("current") is settings
    with pytest.raises(SettingsError, match="current, fewer"):
        settings.with_extractor("more")
