"""Decides whether a run may be published, by rules over its metrics.json.

A challenger loses to the champion only if its recall falls by more than [gate] allows *and* the
95 % interval of the paired bootstrap over uploaders is entirely below zero. With few uploaders a
large loss may be noise; with many uploaders a small loss may be significant but acceptable.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
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


class Outcome(StrEnum):
    """The decision of the gate, as stored in table `runs`."""

    PUBLISH = "publish"
    REFUSE = "refuse"
    # Refused by the rules; a person publishes the run nevertheless.
    FORCED = "forced"


@dataclass(frozen=True)
class ForceRequest:
    """A person's request to publish a refused run; stored with the decision.

    Attributes:
        by: name of the person.
        reason: why the run is published nevertheless.

    Raises:
        ForceError: the name or the reason is empty.
    """

    by: str
    reason: str

    def __post_init__(self) -> None:
        if not self.by.strip() or not self.reason.strip():
            raise ForceError(f"by {self.by!r}, reason {self.reason!r}")


@dataclass(frozen=True)
class Verdict:
    """The result of one rule.

    Attributes:
        rule: name of the rule.
        passed: whether the challenger meets the rule.
        text: one sentence with actual and expected figures. It is stored with the decision and
            compared by `decide`: a new wording makes a forced run need a new `force`.
    """

    rule: str
    passed: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """The gate's decision on a run.

    Attributes:
        run_id: the run.
        decision: the outcome.
        verdicts: results of all rules.
        force: who forced the publication, if the outcome is FORCED.
    """

    run_id: str
    decision: Outcome
    verdicts: tuple[Verdict, ...]
    force: ForceRequest | None = None

    @property
    def may_publish(self) -> bool:
        """Whether the run may become a release."""
        return self.decision is not Outcome.REFUSE

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The verdicts of the rules that were broken."""
        return tuple(v for v in self.verdicts if not v.passed)

    @property
    def reasons(self) -> str:
        """Column `reasons` of table `runs`: verdicts and force, as JSON."""
        force = asdict(self.force) if self.force else None
        verdicts = [asdict(v) for v in self.verdicts]
        return json.dumps({"verdicts": verdicts, "force": force}, sort_keys=True)


def decide(context: Context, run_id: str, force: ForceRequest | None = None) -> Decision:
    """Apply the gate's rules to a run, and write the decision to table `runs`.

    A forced run stays forced as long as its verdicts are the same: if publishing failed, a retry
    needs no new `force`.

    Args:
        context: settings, lake and store.
        run_id: the run.
        force: a request to publish the run if the rules refuse it.

    Raises:
        ProvenanceError: the run was not evaluated.
        LakeUnavailableError: the lake cannot be reached.
    """
    lake, store = context.lake, context.store
    with missing_lake_errors(store.root):
        document, dataset = load_metrics(store, run_id), load_dataset(store, run_id)
    verdicts = apply_rules(context.settings.gate, document)
    earlier = read_decision(lake, run_id)
    if force is None and earlier is not None and earlier.verdicts == verdicts:
        force = earlier.force
    if all(verdict.passed for verdict in verdicts):
        decision = Decision(run_id, Outcome.PUBLISH, verdicts)
    elif force is None:
        decision = Decision(run_id, Outcome.REFUSE, verdicts)
    else:
        decision = Decision(run_id, Outcome.FORCED, verdicts, force)
    row = {
        "run_id": run_id,
        "as_of": dataset.as_of,
        "finished_at": dt.datetime.now(dt.UTC),
        "decision": str(decision.decision),
        "reasons": decision.reasons,
        "metrics": json.dumps(document, sort_keys=True),
        "inputs": json.dumps(dataset.inputs, sort_keys=True),
    }
    lake.upsert("runs", TABLES["runs"].frame([row]))
    for verdict in decision.failed:
        log.warning("gate rule %s failed: %s", verdict.rule, verdict.text)
    log.info("gate: %s %s", decision.decision, run_id)
    return decision


def read_decision(lake: Lake, run_id: str) -> Decision | None:
    """Read the decision on a run from table `runs`; None if the gate has not decided."""
    rows = lake.read("runs").filter(run_id=run_id)
    if rows.is_empty():
        return None
    reasons = json.loads(rows["reasons"][0])
    return Decision(
        run_id,
        Outcome(rows["decision"][0]),
        tuple(Verdict(**verdict) for verdict in reasons["verdicts"]),
        ForceRequest(**reasons["force"]) if reasons["force"] else None,
    )


def apply_rules(gate: GateSettings, document: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Apply the rules to a metrics.json.

    Rules about recall need test picks; rules about the champion need a scored champion. They are
    left out where these are missing.

    Args:
        gate: bounds of the rules.
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
    contenders = document["contenders"]
    challenger = contenders["challenger"]
    verdicts = []
    for baseline in ("random", "popularity"):
        found = document["differences"][baseline][measure]
        verdicts.append(
            Verdict(
                f"beats_{baseline}",
                found["low"] > 0,
                f"{measure} {challenger[measure]:.3f} against "
                f"{contenders[baseline][measure]:.3f}: "
                f"difference {_interval(found)} must lie above 0",
            )
        )
    # Lists for few test picks cannot cover a large catalogue. Random lists cover what is possible.
    least = gate.min_coverage * contenders["random"]["coverage"]
    return [
        *verdicts,
        Verdict(
            "coverage",
            challenger["coverage"] >= least,
            f"{challenger['coverage']:.2%} of the catalogue is recommended, at least "
            f"{least:.2%} ({gate.min_coverage} of what random lists cover)",
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
        _loss_rule("champion_recall", found[measure], champion[measure], gate.champion_loss),
        Verdict(
            "champion_calibration",
            worse <= gate.calibration_worsening,
            f"genre KL {challenger['genre_kl']:.3f} against {champion['genre_kl']:.3f} nats, "
            f"may worsen by {gate.calibration_worsening}",
        ),
    ]
    for name, difference in found["slices"].items():
        level = champion["slices"][name][measure]
        verdicts.append(_loss_rule(f"slice_{name}", difference, level, gate.slice_loss))
    return verdicts


def _loss_rule(rule: str, found: Mapping[str, float], level: float, allowed: float) -> Verdict:
    """Fail if the loss against the champion's `level` is larger than allowed and significant."""
    lost = found["difference"] < -allowed * level and found["high"] < 0
    return Verdict(
        rule,
        not lost,
        f"recall {level + found['difference']:.3f} against the champion's {level:.3f}: "
        f"difference {_interval(found)}, may lose {allowed:.0%} ({allowed * level:.3f})",
    )


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
