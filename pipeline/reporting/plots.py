"""Draws the plots of a run's report, as SVG images in data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.drift import Drift
from pipeline.reporting.facts import Day, Speed

# Equal input gives equal bytes: no random ids (hashsalt), and glyphs as paths, not fonts.
STYLE: Any = {
    "svg.hashsalt": "debcm",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
}
BLUE, ORANGE, GREEN, GREY, RED = "#3b6fb6", "#dd8452", "#55a868", "#9aa3ad", "#c44e52"
BLACK = "#222222"
LINES = (BLUE, ORANGE, GREEN, RED, GREY, BLACK)
COLOURS = {
    "challenger": BLUE,
    "champion": GREEN,
    "teacher": ORANGE,
    "popularity": GREY,
    "random": "#c8ced4",
}
# Usual limits of the population stability index: a moderate and a large shift.
MODERATE, LARGE = 0.1, 0.25
# Bar charts have room for this many days at least, so that a single bar is not as wide as the plot.
_DAYS = 7


def intake(days: Sequence[Day]) -> str:
    """Draw accepted and rejected rows, one bar per landing day; empty without days."""
    if not days:
        return ""
    figure, axes = _figure(6.4, 2.2)
    names = [day.day.strftime("%m-%d") for day in days]
    rejected = [sum(day.rejected.values()) for day in days]
    accepted = [day.accepted for day in days]
    axes.bar(names, accepted, color=BLUE, label="accepted", width=0.6)
    axes.bar(names, rejected, bottom=accepted, color=RED, label="rejected", width=0.6)
    _label(axes, "landing day", "rows", len(days))
    _legend(figure)
    return _uri(figure)


def speed(days: Sequence[Speed]) -> str:
    """Draw clips per second, one bar per day; empty without days."""
    if not days:
        return ""
    figure, axes = _figure(6.4, 1.9)
    names = [day.day.strftime("%m-%d") for day in days]
    axes.bar(names, [day.clips_per_second for day in days], color=BLUE, width=0.6)
    _label(axes, "day (UTC)", "clips / s", len(days))
    return _uri(figure)


def drift(found: Sequence[Drift]) -> str:
    """Draw the PSI of genres and feature blocks; empty without any."""
    if not found:
        return ""
    found = found[::-1]  # barh draws from the bottom up
    figure, axes = _figure(6.4, 0.9 + 0.24 * len(found))
    names, values = [item.name for item in found], [item.value for item in found]
    axes.barh(names, values, color=[_colour(item) for item in found], height=0.6)
    chance = [item.by_chance for item in found]
    axes.plot(chance, names, "|", color=BLACK, markersize=10, label="expected by chance")
    axes.axvline(MODERATE, color=ORANGE, linewidth=1, label=f"{MODERATE}: moderate shift")
    axes.axvline(LARGE, color=RED, linewidth=1, label=f"{LARGE}: large shift")
    # With few rows the value by chance is large and may be outside; the table shows it.
    axes.set_xlim(0, 1.15 * max(LARGE, *values))
    axes.set_xlabel("population stability index")
    _legend(figure)
    return _uri(figure)


def _colour(item: Drift) -> str:
    excess = item.value - item.by_chance
    return RED if excess > LARGE else ORANGE if excess > MODERATE else BLUE


def training(history: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Draw losses and the validation metric by epoch, one row per stage; empty without history."""
    if not history:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.2 * len(history)), layout="constrained")
        grid = figure.subplots(len(history), 2, squeeze=False)
    for (stage, epochs), (left, right) in zip(history.items(), grid, strict=True):
        numbers = [epoch["epoch"] + 1 for epoch in epochs]
        for loss, colour in zip(epochs[0]["losses"], cycle(LINES)):
            values = [epoch["losses"][loss] for epoch in epochs]
            left.plot(numbers, values, color=colour, label=loss)
        _label(left, "epoch", f"{stage}: loss")
        left.xaxis.get_major_locator().set_params(integer=True)
        left.legend(frameon=False, fontsize=7)
        known = [epoch for epoch in epochs if epoch["validation"] is not None]
        if not known:
            right.set_axis_off()  # a teacher without held-out segments has no validation metric
            continue
        epochs_known = [epoch["epoch"] + 1 for epoch in known]
        right.plot(epochs_known, [epoch["validation"] for epoch in known], color=GREEN)
        right.set_ylim(0, 1.05)
        right.xaxis.get_major_locator().set_params(integer=True)
        _label(right, "epoch", f"{stage}: validation recall")
    return _uri(figure)


def contenders(figures: Mapping[str, Mapping[str, Any]], k: int) -> str:
    """Draw recall@K of each contender with its 95 % interval; empty without contenders."""
    if not figures:
        return ""
    figure, axes = _figure(6.4, 0.7 + 0.32 * len(figures))
    names = list(figures)[::-1]
    values = [figures[name][f"recall@{k}"] for name in names]
    intervals = [figures[name]["intervals"][f"recall@{k}"] for name in names]
    # The bootstrap interval of few rows may not contain the value; error bars must be positive.
    below = [max(0.0, v - low) for v, (low, _) in zip(values, intervals, strict=True)]
    above = [max(0.0, high - v) for v, (_, high) in zip(values, intervals, strict=True)]
    axes.barh(
        names,
        values,
        xerr=[below, above],
        color=[COLOURS.get(name, GREY) for name in names],
        height=0.6,
        ecolor=BLACK,
        capsize=3,
    )
    axes.set_xlim(left=0)
    axes.set_xlabel(f"recall@{k}, weighted by inverse popularity, with 95 % interval")
    return _uri(figure)


def genres(figures: Mapping[str, Mapping[str, Any]], picked: Mapping[str, float]) -> str:
    """Draw the genre shares of picked and recommended tracks; empty without contenders."""
    if not figures:
        return ""
    figure, axes = _figure(6.4, 2.6)
    shares = {"picked": dict(picked)} | {
        name: figures[name]["genre_share"] for name in COLOURS if name in figures
    }
    width = 0.8 / len(shares)
    for place, (name, share) in enumerate(shares.items()):
        axes.bar(
            [group + (place - (len(shares) - 1) / 2) * width for group in range(len(picked))],
            [share[group] for group in picked],
            width=width,
            color=COLOURS.get(name, BLACK),
            label=name,
        )
    axes.set_xticks(range(len(picked)), list(picked))
    _label(axes, "genre group", "share of the tracks")
    _legend(figure)
    return _uri(figure)


def _label(axes: Axes, x: str, y: str, days: int = 0) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if days:
        axes.set_xlim(-0.5, max(days, _DAYS) - 0.5)


def _legend(figure: Figure) -> None:
    figure.legend(loc="outside upper right", frameon=False, ncols=6, fontsize=8)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _uri(figure: Figure) -> str:
    with mpl.rc_context(STYLE), io.BytesIO() as stream:
        figure.savefig(stream, format="svg", metadata={"Date": None})
        return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"
