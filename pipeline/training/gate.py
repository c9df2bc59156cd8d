"""Whether a challenger may be published: rules over metrics.json, each with its reason.

A champion is lost to only where the loss exceeds what the settings tolerate *and* the paired
bootstrap over uploaders excludes that there is none: with few of them a larger loss is noise, with
many a small one is real and tolerated.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.context import Context
from pipeline.errors import Permanent
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.sections import GateSettings
from pipeline.storage.presence import missing_lake_errors
from pipeline.training.dataset import load_dataset
from pipeline.training.evaluate import load_metrics

log = logging.getLogger(__name__)


class ForceError(Permanent):
    """A forced publication needs the name of a person and a reason."""

    remedy = "Give both: `--force --by NAME --reason TEXT`."


@dataclass(frozen=True)
class ForceRequest:
    """Who publishes against the gate's verdict, and why; recorded with the decision."""

    by: str
    reason: str

    def __post_init__(self) -> None:
        if not self.by.strip() or not self.reason.strip():
            raise ForceError(f"by {self.by!r}, reason {self.reason!r}")


@dataclass(frozen=True)
class Verdict:
    """What one rule says.

    Attributes:
        rule: its name.
        passed: whether the challenger keeps it.
        text: one sentence with expected and actual figures.
    """

    rule: str
    passed: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """The gate's decision on a run.

    Attributes:
        run_id: the run.
        decision: "publish", "refuse" or "forced".
        verdicts: of every rule.
        force: who overruled a refusal.
    """

    run_id: str
    decision: str
    verdicts: tuple[Verdict, ...]
    force: ForceRequest | None = None

    @property
    def may_publish(self) -> bool:
        """Whether the run may become a release."""
        return self.decision != "refuse"

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The rules that were broken."""
        return tuple(v for v in self.verdicts if not v.passed)

    @property
    def reasons(self) -> str:
        """The verdicts and who overruled them, as stored in table `runs`: JSON."""
        force = asdict(self.force) if self.force else None
        verdicts = [asdict(v) for v in self.verdicts]
        return json.dumps({"verdicts": verdicts, "force": force}, sort_keys=True)


def decide(context: Context, run_id: str, force: ForceRequest | None = None) -> Decision:
    """Judge a run by its metrics.json, and write the decision to table `runs`.

    Judged again by the same figures, a run that somebody forced stays forced: a publication that
    failed goes on by itself.

    Raises:
        ProvenanceError: the run was not evaluated.
        LakeUnavailableError: the lake has gone away.
    """
    settings, lake, store = context.settings, context.lake, context.store
    with missing_lake_errors(store.root):
        document, dataset = load_metrics(store, run_id), load_dataset(store, run_id)
    verdicts = judge(settings.gate, document)
    good = all(verdict.passed for verdict in verdicts)
    earlier = read_decision(lake, run_id)
    if force is None and earlier is not None and earlier.verdicts == verdicts:
        force = earlier.force
    word = "publish" if good else "forced" if force else "refuse"
    decision = Decision(run_id, word, verdicts, force if word == "forced" else None)
    row = {
        "run_id": run_id,
        "as_of": dataset.as_of,
        "finished_at": dt.datetime.now(dt.UTC),
        "decision": word,
        "reasons": decision.reasons,
        "metrics": json.dumps(document, sort_keys=True),
        "inputs": json.dumps(dataset.inputs, sort_keys=True),
    }
    lake.upsert("runs", TABLES["runs"].frame([row]))
    for verdict in decision.failed:
        log.warning("gate, rule %s: %s", verdict.rule, verdict.text)
    log.info("gate: %s %s", word, run_id)
    return decision


def read_decision(lake: Lake, run_id: str) -> Decision | None:
    """The decision in table `runs`, or None where the run was not judged."""
    rows = lake.read("runs").filter(run_id=run_id)
    if rows.is_empty():
        return None
    reasons = json.loads(rows["reasons"][0])
    return Decision(
        run_id,
        rows["decision"][0],
        tuple(Verdict(**verdict) for verdict in reasons["verdicts"]),
        ForceRequest(**reasons["force"]) if reasons["force"] else None,
    )


def judge(gate: GateSettings, document: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Apply every rule that can be applied to a metrics.json.

    Args:
        gate: the rules' bounds.
        document: metrics.json of a run.
    """
    rows = document["evaluation_set"]["rows"]
    verdicts = [
        Verdict("enough_rows", rows >= gate.min_test_rows, f"{rows} of {gate.min_test_rows} rows"),
        *_embedding_rules(gate, document["embeddings"]),
    ]
    if rows:
        verdicts += _absolute_rules(gate, document)
    if rows and document["champion"]["scored"]:
        verdicts += _champion_rules(gate, document)
    return tuple(verdicts)


def _embedding_rules(gate: GateSettings, checks: Mapping[str, Any]) -> list[Verdict]:
    verdicts = []
    for kind, found in checks.items():
        verdicts += [
            Verdict(
                f"finite_{kind}",
                found["finite"] == 1.0,
                f"{found['finite']:.2%} of the embeddings are finite, all must be",
            ),
            Verdict(
                f"spread_{kind}",
                found["spread"] >= gate.min_spread,
                f"spread {found['spread']:.4f}, at least {gate.min_spread}; 0: all alike",
            ),
            Verdict(
                f"norm_{kind}",
                0 < found["largest_norm"] <= gate.max_norm_ratio * found["median_norm"],
                f"largest norm {found['largest_norm']:.3g}, at most {gate.max_norm_ratio} "
                f"x the median of {found['median_norm']:.3g}",
            ),
        ]
    return verdicts


def _absolute_rules(gate: GateSettings, document: Mapping[str, Any]) -> list[Verdict]:
    measure = f"recall@{gate.recall_k}"
    figures = document["contenders"]
    challenger = figures["challenger"]
    verdicts = []
    for baseline in ("random", "popularity"):
        found = document["differences"][baseline][measure]
        verdicts.append(
            Verdict(
                f"beats_{baseline}",
                found["low"] > 0,
                f"{measure} {challenger[measure]:.3f} against {figures[baseline][measure]:.3f}: "
                f"difference {_interval(found)} must lie above 0",
            )
        )
    # Few test rows cannot recommend a large catalogue: random lists say how much they could.
    reachable = gate.min_coverage * figures["random"]["coverage"]
    return [
        *verdicts,
        Verdict(
            "coverage",
            challenger["coverage"] >= reachable,
            f"{challenger['coverage']:.2%} of the catalogue is recommended, at least "
            f"{reachable:.2%} ({gate.min_coverage} of what random lists cover)",
        ),
        Verdict(
            "calibration",
            challenger["genre_kl"] <= gate.max_calibration,
            f"genre KL {challenger['genre_kl']:.3f} nats, at most {gate.max_calibration}",
        ),
    ]


def _champion_rules(gate: GateSettings, document: Mapping[str, Any]) -> list[Verdict]:
    measure = f"recall@{gate.recall_k}"
    challenger = document["contenders"]["challenger"]
    champion = document["contenders"]["champion"]
    found = document["differences"]["champion"]
    worse = challenger["genre_kl"] - champion["genre_kl"]
    verdicts = [
        _loss("champion_recall", found[measure], champion[measure], gate.champion_loss),
        Verdict(
            "champion_calibration",
            worse <= gate.calibration_worsening,
            f"genre KL {challenger['genre_kl']:.3f} against {champion['genre_kl']:.3f} nats, "
            f"may worsen by {gate.calibration_worsening}",
        ),
    ]
    for name, difference in found["slices"].items():
        level = champion["slices"][name][measure]
        verdicts.append(_loss(f"slice_{name}", difference, level, gate.slice_loss))
    return verdicts


def _loss(rule: str, found: Mapping[str, float], level: float, tolerated: float) -> Verdict:
    """Lost where the loss is larger than tolerated and the interval lies wholly below 0."""
    lost = found["difference"] < -tolerated * level and found["high"] < 0
    return Verdict(
        rule,
        not lost,
        f"recall {level + found['difference']:.3f} against the champion's {level:.3f}: "
        f"difference {_interval(found)}, may lose {tolerated:.0%} ({tolerated * level:.3f})",
    )


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
