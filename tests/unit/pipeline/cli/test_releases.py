"""The commands about releases, and the model card that one of them shows."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from typer.testing import CliRunner

from pipeline import steps
from pipeline.cli import releases
from pipeline.cli.main import app
from pipeline.context import Context
from pipeline.errors import PipelineError, ProvenanceError, ReleaseError
from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.releases.serving import Recommendation
from pipeline.training.gate import ForceError
from pipeline.upkeep import erasure


@pytest.fixture
def run(published, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEBCM_LAKE__ROOT", published.settings.lake.root)

    def call(*arguments: str, code: int = 0) -> str:
        outcome = CliRunner().invoke(app, list(arguments))
        if isinstance(outcome.exception, PipelineError):
            raise outcome.exception
        assert outcome.exit_code == code, outcome.output
        return outcome.output

    return call


def test_list_show_verify(published, run) -> None:
    listed = run("release", "list").splitlines()
    assert listed[0].split()[:2] == ["release", "music"]
    assert listed[1].split()[:4] == ["*", published.run_id, "120", "900"]
    assert f"# Model card: release {published.run_id}" in run("release", "show")
    assert "valid. 12 files" in run("release", "verify")
    assert "valid. 12 files" in run("release", "verify", published.run_id)


def test_diff_rollback_promote(published, run, next_run, publishing) -> None:
    run_id = next_run(published)
    publishing(published, run_id)
    shown = run("release", "diff", published.run_id)
    assert "music: 0 added, 0 removed" in shown
    assert "top-10 overlap for videos in both: 100.0%" in shown
    assert run("release", "rollback", "--reason", "it hums").endswith(f"{published.run_id}\n")
    assert "it hums" in run("release", "list")
    assert run_id in run("release", "promote", run_id)
    with pytest.raises(ReleaseError, match="no such release"):
        run("release", "promote", "2020-01-01-x")


def test_a_damaged_release_is_listed_as_damaged(published, run, next_run, publishing) -> None:
    run_id = next_run(published)
    publishing(published, run_id)
    damaged = published.store.fetch(f"releases/{published.run_id}") / "music.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    good, bad, named = run("release", "list").splitlines()[1:]
    assert good.split()[:3] == ["*", run_id, "120"]
    assert bad.split()[:4] == [published.run_id, "0", "0", "damaged"]
    assert str(damaged) in named


def test_upkeep_continues_when_deletions_fail(run, monkeypatch) -> None:
    called: list[str] = []

    def fail() -> None:
        raise ProvenanceError("damaged", where="releases/x")

    monkeypatch.setattr(steps, "apply_deletions", fail)
    for name in ("retention", "compaction"):
        monkeypatch.setattr(steps, name, lambda name=name: called.append(name) or {})
    with pytest.raises(ProvenanceError, match="releases/x"):
        run("upkeep")
    assert called == ["retention", "compaction"]


def test_recommend_says_why_a_file_is_rejected(run, tmp_path) -> None:
    assert "missing" in run("recommend", str(tmp_path / "no.mp4"), code=1)


def test_control_characters_in_titles_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    hit = Recommendation(1, "m1", "\x1b[2Jgone\n", "花\u202e", "pop", "pop", 1.5, 1.25, -0.25)
    releases._show_hits([hit], explain=True)
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "music",
        "title",
        "artist",
        "genre",
        "score",
        "=",
        "unadjusted",
        "+",
        "debiasing",
    ]
    assert line == "1  m1     ?[2Jgone?  花?     pop    +1.500  +1.250        +0.250"


def test_verify_erased_lists_traces_until_they_are_removed(published, run) -> None:
    found = run("verify-erased", "v0003", code=1)
    assert "found in " in found
    assert "no erasure of this id is on record; its deletion was not requested either" in found
    row = {"kind": "video", "id_hash": id_hash("video", "v0003"), "dt": dt.date(2026, 3, 3)}
    row["requested_at"] = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
    published.lake.add("deletions", TABLES["deletions"].frame([row]))
    erasure.run(Context(published.settings))
    (erased_at,) = published.lake.read("erasures")["erased_at"].unique()
    expiry = erased_at + dt.timedelta(days=7)
    note = f"old version of a table; the first upkeep after {expiry:%Y-%m-%d %H:%M} UTC removes it"
    assert note in run("verify-erased", "v0003", code=1)
    for table in TABLES:
        published.lake.remove_old_versions(table, 0)
    assert run("verify-erased", "v0003") == "not found in any file\n"
    said = run("verify-erased", "v0003x", code=releases.NOT_ON_RECORD)
    assert "no erasure of this id is on record" in said
    assert "Check the spelling" in said
    published.request_deletions("uploader", "v0003x")
    said = run("verify-erased", "v0003x", code=releases.NOT_ON_RECORD)
    assert "was requested in landing day 2026-03-03" in said


def test_commands_before_the_first_release_say_that_there_is_none(toy, monkeypatch) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", toy.settings.lake.root)
    assert "no release" in CliRunner().invoke(app, ["release", "list"]).output
    outcome = CliRunner().invoke(app, ["recommend", "x.mp4"])
    assert isinstance(outcome.exception, ReleaseError)


def test_forcing_a_refused_run_needs_a_name_and_a_reason(
    published, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_GATE__MIN_TEST_ROWS", "1000000")
    assert '"decision": "refuse"' in run("gate", published.run_id, "--json")
    with pytest.raises(ForceError):
        run("gate", published.run_id, "--force", "--by", "Ada")
    force = ("--force", "--by", "Ada", "--reason", "a small market")
    forced = json.loads(run("gate", published.run_id, *force, "--json"))
    assert forced["decision"] == "forced"
    assert forced["force"] == {"by": "Ada", "reason": "a small market"}
