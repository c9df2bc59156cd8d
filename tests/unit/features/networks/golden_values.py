"""Writes small clips and their features into the folder `golden`.

Run `python -m tests.unit.features.networks.golden_values` only together with a change of
VISUAL_CODE or AUDIO_CODE in features/networks/extractor_name.py: an extractor with other
values needs another name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from features import AudioConfig, AudioExtractor, MediaFile, VisualConfig, VisualExtractor
from features.arrays import AnyArray
from tests.helpers import media_kinds
from tests.helpers.media_kinds import MediaKind

FOLDER = Path(__file__).with_name("golden")
VALUES = FOLDER / "values.npz"
SMALL = {"size": (96, 64), "frames": 48}
CLIPS = (
    MediaKind("h264.mp4", "libx264", options={"crf": "30"}, b_frames=3, **SMALL),  # type: ignore[arg-type]
    MediaKind("vp9.webm", "libvpx-vp9", options={"crf": "45", "b": "0"}, **SMALL),  # type: ignore[arg-type]
    MediaKind("mpeg4.avi", "mpeg4", options={"qscale": "16"}, **SMALL),  # type: ignore[arg-type]
    MediaKind(
        "turned.mov",
        "libx264",
        options={"crf": "30"},
        prepare=media_kinds.rotate_display(90),
        stored=media_kinds.quarter_turns(-1),
        **SMALL,  # type: ignore[arg-type]
    ),
)
TRACKS = {
    "stereo.mp3": ("libmp3lame", 44_100, {"b": "32k"}),
    "stereo.opus": ("libopus", 48_000, {"b": "24k"}),
    "stereo.m4a": ("aac", 22_050, {"b": "32k"}),
}


def measure() -> Iterator[tuple[str, AnyArray]]:
    """Yield the name and values of each block of each golden file, and of its spectrogram."""
    visual, audio = VisualExtractor(VisualConfig()), AudioExtractor(AudioConfig())
    for path in sorted(FOLDER.iterdir()):
        if path.name in TRACKS:
            sound = audio.extract(MediaFile(path))[0]
            yield f"{path.name}/mel", sound.mel.astype(np.float32).mean(axis=1)
            parts, embedding = audio.blocks, sound.embedding
        elif path != VALUES:
            picture = visual.extract(MediaFile(path))[0]
            yield f"{path.name}/frames", picture.frame_embeddings[::5].astype(np.float32).ravel()
            parts, embedding = visual.blocks, picture.embedding
        else:
            continue
        for block, place in parts.items():
            yield f"{path.name}/{block}", embedding[place]


def main() -> None:
    """Render the missing clips and write the features of all."""
    av.logging.set_level(None)
    FOLDER.mkdir(exist_ok=True)
    for kind in CLIPS:
        if not (FOLDER / kind.name).exists():
            media_kinds.render(kind, FOLDER)
    for name, (codec, rate, options) in TRACKS.items():
        if not (FOLDER / name).exists():
            samples = media_kinds.tone(4.0, rate)
            samples += np.random.default_rng(0).normal(0, 0.02, samples.shape)
            media_kinds.write_sound(FOLDER / name, codec, samples, rate, options)
    np.savez_compressed(VALUES, **dict(measure()))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
