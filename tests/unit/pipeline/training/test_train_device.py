"""A device that the machine does not have is a fault of the settings (fault 40)."""

from __future__ import annotations

import pytest

from pipeline.settings.load import SettingsError
from pipeline.training import train


@pytest.mark.parametrize("device", ["xpu", "cuda:99"])
def test_a_missing_device_is_named(device: str) -> None:
    with pytest.raises(SettingsError, match=rf"torch cannot use '{device}'.*\(model.device\)"):
        train._check_device(device)


def test_the_processor_can_be_used() -> None:
    train._check_device("cpu")
