"""The model card of a release, in Markdown, from its manifest and metrics.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.releases.files import ReleaseInfo

_PURPOSE = """\
Ranks background music for micro-videos by their content, for recommendation teams that serve it
through its index. Not meant for judging uploaders, nor for licensing or attribution of music.
"""

_ORDER = ("challenger", "champion", "teacher", "popularity", "random")

_LIMITS = """\
- Test rows are what uploaders picked, and uploaders know few tracks and prefer genres. Weighting
  by inverse popularity takes out how often a track is picked, not who knew of it. How the model
  does against the true match can be measured in a simulated world only (docs/results.md).
- Genre calibration compares with the genres of the distinct tracks picked, not with the genres
  that would truly match best.
- Tracks without a training pick ("music cold") are scored by their sound alone.
- Scores order the tracks for one video; they are no probabilities, and scores of two videos
  cannot be compared.
- Embeddings of two releases do not mix, aligned or not: dot products are defined within one.
"""


def model_card(manifest: ReleaseInfo, metrics: dict[str, Any]) -> str:
    """Write the card.

    Args:
        manifest: of the release.
        metrics: metrics.json of the release.
    """
    parts = [
        f"# Model card: release {manifest.release_id}\n",
        _PURPOSE,
        "## Data\n\n" + _data(manifest, metrics),
        "## Figures\n\n" + _figures(metrics),
        "## Slices\n\n" + _slices(metrics),
        "## Gate\n\n" + _gate(manifest),
        "## Continuity\n\n" + _continuity(metrics.get("continuity")),
        "## Index\n\n" + _index(metrics["index"]),
        "## Known limits\n\n" + _LIMITS,
        "## Versions\n\n" + _versions(manifest),
    ]
    return "\n".join(parts)


def _data(manifest: ReleaseInfo, metrics: dict[str, Any]) -> str:
    cut_offs = manifest.inputs.get("cut_offs", ["", ""])
    tested = metrics["evaluation_set"]
    rows = [
        ("deliveries up to", manifest.as_of),
        ("validation picks from", cut_offs[0]),
        ("test picks from", cut_offs[1]),
        ("videos", f"{manifest.videos:,}"),
        ("tracks", f"{manifest.music:,}"),
        ("test rows", f"{tested['rows']:,}"),
        ("sha256 of the test rows", tested["sha256"]),
        ("genre groups", ", ".join(manifest.groups)),
    ]
    return _table(("what", "value"), rows)


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
    said = (
        f"The champion was {champion['release_id']}.\n"
        if champion["scored"]
        else f"No champion was scored: {champion['why']}.\n"
    )
    return (
        _table(head, rows)
        + "\nOver the full catalogue, rows weighted by inverse popularity, 95 % bootstrap "
        "intervals over uploaders; genre KL in nats, 0 is perfectly calibrated. " + said
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


def _gate(manifest: ReleaseInfo) -> str:
    decision = manifest.decision
    force = decision["force"]
    said = f"Decision: {decision['decision']}."
    if force:
        said = f"Forced by {force['by']}: {force['reason']}"
    rows = [
        (verdict["rule"], "kept" if verdict["passed"] else "broken", verdict["text"])
        for verdict in decision["verdicts"]
    ]
    return f"{said}\n\n" + _table(("rule", "", "figures"), rows)


def _continuity(found: dict[str, Any] | None) -> str:
    if found is None:
        return "The first release: nothing to align with.\n"
    if not found["aligned"]:
        return f"Axes of its own: nothing in common with {found['previous']}.\n"
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
        f"On the axes of {found['previous']}, by an orthogonal map over common tracks.\n\n"
        + _table(
            ("items", "common", "mean cosine distance", "95th percentile", "before alignment"),
            rows,
        )
    )


def _index(found: dict[str, Any]) -> str:
    return (
        f"{found['kind']} over {found['tracks']:,} tracks; finds {found['recall']:.2%} of the "
        f"exact top {found['k']} of {found['queries']:,} videos.\n"
    )


def _versions(manifest: ReleaseInfo) -> str:
    rows = [
        ("run", manifest.run_id),
        ("visual extractor", manifest.visual_extractor),
        ("audio extractor", manifest.audio_extractor),
        *sorted(manifest.packages.items()),
        *(
            (f"table {name}", f"version {number}")
            for name, number in sorted(manifest.inputs.get("tables", {}).items())
        ),
    ]
    return _table(("what", "version"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a cell's pipes and line breaks must not end it."""

    def line(cells: Sequence[str]) -> str:
        safe = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
        return f"| {' | '.join(safe)} |\n"

    return line(head) + line(["---"] * len(head)) + "".join(map(line, rows))
