"""The examples of docs/media.md are valid configurations, and its counts are right."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from features import AudioConfig, SoundEncoder, VisualConfig
from tests.helpers.media_kinds import KINDS

PAGE = (Path(__file__).parents[3] / "docs" / "media.md").read_text()


def test_the_page_counts_the_kinds_of_file_in_the_tests_of_sampling() -> None:
    assert f"over {len(KINDS)} kinds of file" in PAGE


def test_the_examples_of_networks_are_valid() -> None:
    picture, sound = (tomllib.loads(t) for t in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
    visual = VisualConfig(**picture["visual"])
    audio = AudioConfig(**sound["audio"])
    assert visual.encoder is not None
    assert audio.encoder is not None
    assert (visual.encoder.name, visual.encoder.dim) == ("resnet50", 2048)
    assert (audio.encoder.name, audio.encoder.dim, audio.blocks) == ("vggish", 128, ("network",))
    defaults = SoundEncoder.model_fields
    assert (defaults["frames"].default, defaults["n_mels"].default) == (96, 64)
