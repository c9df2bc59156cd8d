"""Interpolates between teacher and student as far as later picks confirm.

A student starts as a copy of its teacher, so the straight line between both sets of weights
consists of working models (WiSE-FT, Wortsman et al., arXiv 2109.01903). Few or careless picks teach
a student habits and noise, which a loss on the same picks cannot tell from match; later picks,
which it was not trained on, can. They also show the opposite: if the best point is beyond the
trained student, the teacher held the student back.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t
from torch.nn import functional as F  # noqa: N812

from models.arrays import Float32Array, Float64Array, Int64Array
from models.config import ModelConfig
from models.data import Picks, TrainingData
from models.distributed import same_on_all
from models.model import Model
from models.networks import DebcmNetwork
from models.objectives import PickChoice
from models.pick_explanation import embed_steps, fit_explaining_parameters

# The point on the line beyond the trained student.
EXTRAPOLATED_SHARE = 1.25

# Points of the line that are compared: 0 is the teacher, 1 the trained student.
STUDENT_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, EXTRAPOLATED_SHARE)

# Gain of EXTRAPOLATED_SHARE over the trained student, in nats per later pick, above which the
# teacher is taken to hold the student back.
HELD_BACK_GAIN = 0.01

# Confidence of the one-sided test of `significantly_lower`.
CONFIDENCE = 0.975

# Later picks that are used, at most.
_MAX_PICKS = 2048

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PickLikelihood:
    """How well a student predicts later picks.

    Attributes:
        model: the student.
        nll: float32[n], negative log-likelihood of each later pick under the student, in nats.
        uploader: int64[n], the uploader of each pick.
        held_back: whether its teacher held it back.
        uninformative_teacher: whether it was held back by a teacher whose match does not
            significantly improve the likelihood of later picks.
        teacher_nll: float32[n], the same as `nll` under the teacher; without a teacher, `nll`.
    """

    model: Model
    nll: Float32Array
    uploader: Int64Array
    held_back: bool
    uninformative_teacher: bool
    teacher_nll: Float32Array


def measure_likelihood(student: Model, data: TrainingData) -> PickLikelihood:
    """Measure how well a student, which is not changed, predicts later picks."""
    nll = negative_log_likelihood(deepcopy(_network(student)), data, student.config)
    uploader = data.validation.uploader[_validation_rows(data)]
    return PickLikelihood(
        student, nll, uploader, held_back=False, uninformative_teacher=False, teacher_nll=nll
    )


def interpolate(student: Model, teacher: Model, data: TrainingData) -> PickLikelihood:
    """Move a trained student along the line from its teacher to the point later picks confirm.

    Args:
        student: fully trained, of variant `debcm`; its network and `student_share` are changed.
            Its choice set and confounders explain the later picks.
        teacher: that the student started from.
        data: its validation picks are the later picks; at least one.
    """
    start, end = _network(teacher), _network(student)
    nll = np.stack(
        [
            negative_log_likelihood(interpolated_network(start, end, share), data, student.config)
            for share in STUDENT_SHARES
        ]
    )
    uploader = data.validation.uploader[_validation_rows(data)]
    if len(np.unique(uploader)) < 2:
        log.warning(
            "all validation picks are from one uploader: the student stays at its teacher, because "
            "no improvement can be significant"
        )
    held_back = bool(same_on_all(float(nll[-2].mean() - nll[-1].mean() > HELD_BACK_GAIN)))
    uninformative = held_back and not significantly_lower(
        nll[0],
        negative_log_likelihood(deepcopy(start), data, student.config, use_match=False),
        uploader,
    )
    chosen = int(same_on_all(nearest_within_one_standard_error(nll, uploader)))
    student.student_share = STUDENT_SHARES[chosen]
    log.info(
        "student: moved to %.2f on the line from its teacher (0) to where training ended (1)",
        student.student_share,
    )
    end.load_state_dict(interpolated_network(start, end, student.student_share).state_dict())
    uninformative = bool(same_on_all(float(uninformative)))
    return PickLikelihood(student, nll[chosen], uploader, held_back, uninformative, nll[0])


def _network(model: Model) -> DebcmNetwork:
    if not isinstance(model.network, DebcmNetwork):
        raise TypeError(f"interpolation needs variant debcm, got {model.config.variant}")
    return model.network


def interpolated_network(
    teacher: DebcmNetwork, student: DebcmNetwork, share: float
) -> DebcmNetwork:
    """Return a network with weights (1 - share) teacher + share student.

    Towers and temperature are interpolated. The explaining parameters are the student's, because
    a teacher does not learn them.
    """
    mixed = deepcopy(student)
    with torch.no_grad():
        for name in ("video", "music"):
            end = getattr(mixed, name).state_dict()
            start = getattr(teacher, name).state_dict()
            weights = {key: torch.lerp(start[key], value, share) for key, value in end.items()}
            getattr(mixed, name).load_state_dict(weights)
        mixed.log_scale.copy_(torch.lerp(teacher.log_scale, student.log_scale, share))
    return mixed


def _validation_rows(data: TrainingData) -> Int64Array:
    """Return int64[n]: at most 2,048 rows of the validation picks, evenly spread."""
    step = -(-len(data.validation) // _MAX_PICKS)
    return np.arange(0, len(data.validation), step)


def negative_log_likelihood(
    network: DebcmNetwork, data: TrainingData, config: ModelConfig, *, use_match: bool = True
) -> Float32Array:
    """Return float32[n]: - log P(pick | video, uploader) of later picks, in nats.

    The explaining parameters are fitted to the later picks for each network anew, so that a network
    gains nothing by having absorbed preference or popularity.

    Args:
        network: its explaining parameters are changed; in eval mode afterwards.
        data: at most 2,048 of its validation picks are used, evenly spread.
        config: of the student.
        use_match: False explains the picks by preference and popularity only.
    """
    all_picks = replace(data, train=_concatenated(data.train, data.validation))
    objective = PickChoice(network, None, all_picks, config).eval()
    if not use_match:
        network.expertise.requires_grad_(False).fill_(0.0)
    steps = embed_steps(objective, len(data.train) + _validation_rows(data))
    fit_explaining_parameters(objective, steps)
    with torch.no_grad():
        parts = [F.cross_entropy(*objective.choice(step), reduction="none") for step in steps]
    nll: Float32Array = torch.cat(parts).cpu().numpy()
    return nll


def nearest_within_one_standard_error(nll: npt.NDArray[np.floating], uploader: Int64Array) -> int:
    """Return the first row whose gain over row 0 is within a standard error of the best gain.

    The one-standard-error rule (Breiman et al., 1984) chooses, among models that the data cannot
    tell apart, the simplest: here the one nearest to the teacher. The result is 0 unless the
    chosen row is significantly better than row 0.

    Args:
        nll: [S, n], negative log-likelihood of n picks under S models; row 0 is the teacher's.
        uploader: int64[n], the uploader of each pick.
    """
    gain: Float64Array = (nll[:1] - nll).astype(np.float64)
    mean = gain.mean(axis=1)
    best = int(mean.argmax())
    _, error = _clustered_mean_and_error(gain[best], uploader)
    near = int(np.argmax(mean >= mean[best] - error))
    return near if significantly_lower(nll[near], nll[0], uploader) else 0


def significantly_lower(
    one: npt.NDArray[np.floating], other: npt.NDArray[np.floating], uploader: Int64Array
) -> bool:
    """Return whether one model's mean negative log-likelihood is significantly lower.

    A one-sided paired t-test at 97.5 %, with standard errors clustered by uploader, because picks
    of one uploader are not independent. With one uploader, nothing is significant.

    Args:
        one: [n], negative log-likelihoods in nats.
        other: [n], of the same picks under another model.
        uploader: int64[n], the uploader of each pick.
    """
    mean, error = _clustered_mean_and_error((other - one).astype(np.float64), uploader)
    clusters = len(np.unique(uploader))
    return clusters > 1 and mean > float(t.ppf(CONFIDENCE, clusters - 1)) * error


def _clustered_mean_and_error(values: Float64Array, uploader: Int64Array) -> tuple[float, float]:
    """Return the mean and its standard error, which is infinite for a single uploader."""
    _, row = np.unique(uploader, return_inverse=True)
    count, mean = int(row.max()) + 1, float(values.mean())
    if count < 2:
        return mean, float("inf")
    deviation = np.bincount(row, values - mean)
    return mean, float(np.sqrt(np.square(deviation).sum() * count / (count - 1)) / len(values))


def _concatenated(first: Picks, second: Picks) -> Picks:
    return Picks(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("video", "music", "uploader", "time", "preference")
        )
    )
