"""Misspelt names of settings, and messages about invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.settings.load import SettingsError, load_settings


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("DEBCM_LANDNIG__ROOT", r"DEBCM_LANDNIG__ROOT \(did you mean DEBCM_LANDING__ROOT\?\)"),
        ("debcm_landnig__root", "debcm_landnig__root"),
        ("DEBCM_SEDE", "DEBCM_SEDE.*DEBCM_SEED"),
        ("DEBCM_LANDING_ROOT", "DEBCM_LANDING_ROOT.*DEBCM_LANDING__ROOT"),
        ("DEBCM_ALERTS__SMTP_PROT", r"\$DEBCM_ALERTS__SMTP_PROT: alerts.smtp_prot: unknown"),
        # Similar to variables of Kubernetes.
        ("DEBCM_PORT", "DEBCM_PORT"),
        ("DEBCM_SERVICE__HOST", "DEBCM_SERVICE__HOST"),
    ],
)
def test_a_misspelt_variable_is_named_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, variable: str, message: str
) -> None:
    monkeypatch.setenv(variable, "80")
    with pytest.raises(SettingsError, match=message):
        load_settings()


@pytest.mark.parametrize("service", ["DEBCM", "DEBCM_LAKE", "DEBCM_API_SERVER"])
def test_variables_of_kubernetes_services_are_ignored(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    for name, value in {
        "SERVICE_HOST": "10.96.0.7",
        "SERVICE_PORT": "8080",
        "SERVICE_PORT_API_SERVER": "8080",
        "PORT": "tcp://10.96.0.7:8080",
        "PORT_8080_TCP": "tcp://10.96.0.7:8080",
        "PORT_8080_TCP_PROTO": "tcp",
        "PORT_8080_TCP_PORT": "8080",
        "PORT_8080_TCP_ADDR": "10.96.0.7",
    }.items():
        monkeypatch.setenv(f"{service}_{name}", value)
    assert load_settings() == load_settings(lake={})


def test_an_invalid_variable_is_named_even_if_the_file_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "debcm.toml").write_text("[landing]\nreject_share = 0.5")
    monkeypatch.setenv("DEBCM_LANDING__REJECT_SHARE", "7")
    with pytest.raises(SettingsError, match=r"^\$DEBCM_LANDING__REJECT_SHARE: landing.reject"):
        load_settings()


def test_every_invalid_field_is_listed_with_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "debcm.toml").write_text("[landing]\nwait_hors = 1")
    monkeypatch.setenv("DEBCM_EXTRACT__WORKERS", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    file = tmp_path / "debcm.toml"
    assert f"{file}: landing.wait_hors: unknown (did you mean landing.wait_hours?)" in str(
        caught.value
    )
    assert "$DEBCM_EXTRACT__WORKERS: extract.workers: " in str(caught.value)
