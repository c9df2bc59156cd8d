"""Writes the model card of a release, in Markdown, from its release info and metrics.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.releases.files import ReleaseInfo

_PURPOSE = """\
Ranks background music for micro-videos by the videos' content. Recommendation teams serve it
through its index. It is not meant to judge uploaders, or to license or attribute music.
"""

_ORDER = ("challenger", "champion", "teacher", "popularity", "random")

_LIMITS = """\
- Test rows are picks by uploaders, who know few tracks and prefer some genres. Weighting by
  inverse popularity corrects for how often a track is picked, but not for who knew of it. How well
  the model finds the true match can only be measured in a simulated world (docs/results.md).
- Genre calibration compares with the genres of the distinct tracks picked, not with the genres
  that would match best.
- Tracks without a training pick ("music cold") are scored only by their sound.
- Scores order the tracks for one video. They are not probabilities, and scores of different
  videos cannot be compared.
- Never compare embeddings of different releases, aligned or not: dot products are only defined
  within one release.
"""


def model_card(info: ReleaseInfo, metrics: dict[str, Any]) -> str:
    """Return the text of the model card.

    Args:
        info: info of the release.
        metrics: content of the release's metrics.json.
    """
    parts = [
        f"# Model card: release {info.release_id}\n",
        _PURPOSE,
        "## Data\n\n" + _data(info, metrics),
        "## Figures\n\n" + _figures(metrics),
        "## Slices\n\n" + _slices(metrics),
        "## Gate\n\n" + _gate(info),
        "## Continuity\n\n" + _continuity(metrics.get("continuity")),
        "## Index\n\n" + _index(metrics["index"]),
        "## Known limits\n\n" + _LIMITS,
        "## Versions\n\n" + _versions(info),
    ]
    return "\n".join(parts)


def _data(info: ReleaseInfo, metrics: dict[str, Any]) -> str:
    cut_offs = info.inputs.get("cut_offs", ["", ""])
    tested = metrics["evaluation_set"]
    rows = [
        ("landing days up to", info.as_of),
        ("validation picks from", cut_offs[0]),
        ("test picks from", cut_offs[1]),
        ("videos", f"{info.videos:,}"),
        ("tracks", f"{info.music:,}"),
        ("test rows", f"{tested['rows']:,}"),
        ("sha256 of the test rows", tested["sha256"]),
        ("genre groups", ", ".join(info.groups)),
    ]
    return _table(("property", "value"), rows)


def _figures(metrics: dict[str, Any]) -> str:
    contenders = metrics["contenders"]
    names = [name for name in _ORDER if name in contenders]
    if not names:
        return "There were no test rows.\n"
    intervals = contenders[names[0]]["intervals"]
    rows = []
    for name in names:
        figures = contenders[name]
        cells = [
            f"{figures[measure]:.3f} [{low:.3f}, {high:.3f}]"
            for measure, (low, high) in figures["intervals"].items()
        ]
        sampled = figures["sampled"]
        rows.append(
            (
                "this model" if name == "challenger" else name,
                *cells,
                f"{sampled['recall@10']:.3f}",
                f"{figures['genre_kl']:.3f}",
                f"{figures['coverage']:.1%}",
            )
        )
    head = ("contender", *intervals, "recall@10 of 1 + 100", "genre KL", "coverage")
    champion = metrics["champion"]
    champion_text = (
        f"The champion was {champion['release_id']}.\n"
        if champion["scored"]
        else f"No champion was scored: {champion['why']}.\n"
    )
    return (
        _table(head, rows)
        + "\nMeasured over the full catalogue; rows are weighted by inverse popularity; intervals "
        "are 95 % bootstrap intervals over uploaders. Genre KL is in nats; 0 means perfectly "
        "calibrated. " + champion_text
    )


def _slices(metrics: dict[str, Any]) -> str:
    contenders = metrics["contenders"]
    if "challenger" not in contenders:
        return "There were no test rows.\n"
    measure = f"recall@{metrics['evaluation_set']['k']}"
    champion = contenders.get("champion", {}).get("slices", {})
    rows = [
        (
            name,
            str(found["rows"]),
            f"{found[measure]:.3f}",
            f"{champion[name][measure]:.3f}" if name in champion else "",
        )
        for name, found in contenders["challenger"]["slices"].items()
    ]
    return _table(("slice", "rows", f"{measure}, this model", f"{measure}, champion"), rows)


def _gate(info: ReleaseInfo) -> str:
    decision = info.decision
    force = decision["force"]
    text = f"Decision: {decision['decision']}."
    if force:
        text = f"Forced by {force['by']}: {force['reason']}"
    rows = [
        (verdict["rule"], "passed" if verdict["passed"] else "broken", verdict["text"])
        for verdict in decision["verdicts"]
    ]
    return f"{text}\n\n" + _table(("rule", "", "figures"), rows)


def _continuity(found: dict[str, Any] | None) -> str:
    if found is None:
        return "This is the first release; there was none to align with.\n"
    if not found["aligned"]:
        return f"Not aligned with {found['previous']}: other dimension, or no shared track.\n"
    rows = [
        (
            kind,
            f"{found[kind]['items']:,}",
            f"{found[kind]['mean']:.4f}",
            f"{found[kind]['p95']:.4f}",
            f"{found[kind]['before_alignment']:.4f}",
        )
        for kind in ("music", "video")
    ]
    return (
        f"Aligned with {found['previous']} by an orthogonal map fitted to shared tracks.\n\n"
        + _table(
            ("items", "shared", "mean cosine distance", "95th percentile", "before alignment"),
            rows,
        )
    )


def _index(found: dict[str, Any]) -> str:
    return (
        f"{found['kind']} over {found['tracks']:,} tracks. It finds {found['recall']:.2%} of the "
        f"exact top {found['k']} of {found['queries']:,} videos.\n"
    )


def _versions(info: ReleaseInfo) -> str:
    rows = [
        ("run", info.run_id),
        ("visual extractor", info.visual_extractor),
        ("audio extractor", info.audio_extractor),
        *sorted(info.packages.items()),
        *(
            (f"table {name}", f"version {number}")
            for name, number in sorted(info.inputs.get("tables", {}).items())
        ),
    ]
    return _table(("component", "version"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; pipes and line breaks in cells are escaped."""

    def line(cells: Sequence[str]) -> str:
        safe = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
        return f"| {' | '.join(safe)} |\n"

    return line(head) + line(["---"] * len(head)) + "".join(map(line, rows))
