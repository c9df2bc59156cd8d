"""Small clips and the features they gave when they were accepted:
`python -m tests.unit.features.golden_values`.

Writes both into the folder `golden` beside this file. Run it only together with a change of
VISUAL_CODE or AUDIO_CODE in features/networks/extractor_name.py: other values belong to
another extractor.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from features import AudioConfig, AudioExtractor, VisualConfig, VisualExtractor
from features.container.media_file import MediaFile
from tests.helpers import media_kinds
from tests.helpers.media_kinds import Kind

FOLDER = Path(__file__).with_name("golden")
VALUES = FOLDER / "values.npz"
SMALL = {"size": (96, 64), "frames": 48}
CLIPS = (
    Kind("h264.mp4", "libx264", options={"crf": "30"}, b_frames=3, **SMALL),  # type: ignore[arg-type]
    Kind("vp9.webm", "libvpx-vp9", options={"crf": "45", "b": "0"}, **SMALL),  # type: ignore[arg-type]
    Kind("mpeg4.avi", "mpeg4", options={"qscale": "16"}, **SMALL),  # type: ignore[arg-type]
    Kind(
        "turned.mov",
        "libx264",
        options={"crf": "30"},
        prepare=media_kinds._turn(90),
        stored=media_kinds._quarter(-1),
        **SMALL,  # type: ignore[arg-type]
    ),
)
TRACKS = {
    "stereo.mp3": ("libmp3lame", 44_100, {"b": "32k"}),
    "stereo.opus": ("libopus", 48_000, {"b": "24k"}),
    "stereo.m4a": ("aac", 22_050, {"b": "32k"}),
}


def measure() -> Iterator[tuple[str, np.ndarray]]:
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
    """Render the clips that are missing and write the values of all."""
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
