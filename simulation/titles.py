"""Invents titles and artists; some are hard to store or display correctly."""

from __future__ import annotations

import numpy as np

_WORDS = (
    ("Static", "Voltage", "Midnight", "Chrome", "Signal", "Pulse"),
    ("Broken", "Thunder", "Rusted", "Highway", "Savage", "Wreckage"),
    ("Corner", "Concrete", "Golden", "Block", "Late", "Paper"),
    ("Willow", "Harvest", "River", "Lantern", "Wooden", "Meadow"),
    ("Sugar", "Balloon", "Summer", "Glitter", "Candy", "Polaroid"),
    ("Marble", "Winter", "Solemn", "Cathedral", "Silver", "Adagio"),
)
_NOUNS = ("Dreams", "Road", "Letters", "Machine", "Heart", "Garden", "Echoes", "Parade")
_ARTISTS = (
    "The Quiet Kilowatts",
    "Mara Ostinato",
    "Los Vientos Lentos",
    "DJ Fjordlight",
    "Copper & Clay",
    "Ágnes Szilvási",
    "北の風",
    "Ensemble Grünspan",
)
_HARD_TITLES = (
    "Ночной поезд, часть 2",
    "月の裏側",
    "Été à l'Île-d'Yeu",
    "ليلة هادئة",
    "Party 🎉 for Two",
    '<b>Loud</b> & "Clear"',
    "=SUM(of all fears)",
)


def make_title(row: int, group: int, rng: np.random.Generator) -> str:
    """Return a title for the track in `row`; every sixth one has unusual characters."""
    if row % 6 == 3:
        return _HARD_TITLES[row // 6 % len(_HARD_TITLES)]
    return f"{rng.choice(_WORDS[group % len(_WORDS)])} {rng.choice(_NOUNS)}"


def make_artist(rng: np.random.Generator) -> str:
    """Return the name of an artist."""
    return str(rng.choice(_ARTISTS))
