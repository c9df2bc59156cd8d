"""How far from its teacher a student may go: as far as later picks confirm, and no further.

A student starts as its teacher's copy, so the straight line between both sets of weights holds
working models (WiSE-FT, Wortsman et al., arXiv 2109.01903). Few or careless picks teach a student
habits and noise that a loss on these very picks cannot tell from match; picks that it was not
trained on can. They also tell the reverse: where they would have the student go on past where
training took it, its teacher held it back.
"""

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
from models.distributed import agreed
from models.model import Model
from models.networks import DebcmNetwork
from models.objectives import PickChoice
from models.pick_explanation import embedded, explain

BEYOND = 1.25
"""The point on the line beyond the trained student."""

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, BEYOND)
"""Points of the line that are compared: 0 is the teacher, 1 the trained student."""

HELD_BACK = 0.01
"""Nats of a later pick that going `BEYOND` gains where the teacher holds the student back."""

SURE = 0.975
"""Probability (Student's t, over uploaders) from which a gain above zero is taken for real."""

_LATER_PICKS = 2048

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """A student and what later picks say of it.

    Attributes:
        model: the student, where it stands.
        surprise: float32[n], of later picks under it, in nats.
        uploader: int64[n], who made these picks.
        held_back: whether its teacher held it back.
        mute: whether it did so with nothing to say: its own match makes no later pick surely less
            surprising.
        teacher: float32[n], the surprise under the teacher; without one, that under the student.
    """

    model: Model
    surprise: Float32Array
    uploader: Int64Array
    held_back: bool
    mute: bool
    teacher: Float32Array


def judge(student: Model, data: TrainingData) -> Judged:
    """Ask later picks of a student; it is not changed."""
    found = surprise(deepcopy(_network(student)), data, student.config)
    uploader = data.validation.uploader[_later(data)]
    return Judged(student, found, uploader, held_back=False, mute=False, teacher=found)


def interpolate(student: Model, teacher: Model, data: TrainingData) -> Judged:
    """Move a trained student along the line from its teacher to where later picks want it.

    Args:
        student: of variant `debcm`, all the way; its network and share are changed in place. Its
            consideration set and confounders explain the later picks.
        teacher: where the student started.
        data: its validation picks decide; at least one.
    """
    first, last = _network(teacher), _network(student)
    surprises = np.stack(
        [surprise(between(first, last, share), data, student.config) for share in SHARES]
    )
    uploader = data.validation.uploader[_later(data)]
    if len(np.unique(uploader)) < 2:
        logger.warning("all later picks are one uploader's: no move from the teacher can be sure")
    gain_beyond = surprises[-2].mean() - surprises[-1].mean()
    held_back = bool(agreed(float(gain_beyond > HELD_BACK)))
    mute = held_back and not surely_less(
        surprises[0], surprise(deepcopy(first), data, student.config, match=False), uploader
    )
    place = int(agreed(nearest_as_good(surprises, uploader)))
    student.share = SHARES[place]
    logger.info("student: %.2f of the way from its teacher", student.share)
    last.load_state_dict(between(first, last, student.share).state_dict())
    mute = bool(agreed(float(mute)))
    return Judged(student, surprises[place], uploader, held_back, mute, surprises[0])


def _network(model: Model) -> DebcmNetwork:
    if not isinstance(model.network, DebcmNetwork):
        raise TypeError(f"a {model.config.variant} model has no line to its teacher: only debcm")
    return model.network


def between(teacher: DebcmNetwork, student: DebcmNetwork, share: float) -> DebcmNetwork:
    """Return (1 - share) teacher + share student: towers and temperature.

    What explains picks besides the match is the student's: a teacher has learned nothing of it.
    """
    found = deepcopy(student)
    with torch.no_grad():
        for name in ("video", "music"):
            own = getattr(found, name).state_dict()
            start = getattr(teacher, name).state_dict()
            mixed = {key: torch.lerp(start[key], value, share) for key, value in own.items()}
            getattr(found, name).load_state_dict(mixed)
        found.log_scale.copy_(torch.lerp(teacher.log_scale, student.log_scale, share))
    return found


def _later(data: TrainingData) -> Int64Array:
    """Return int64[n]: at most 2,048 rows of the validation picks, evenly spread."""
    step = -(-len(data.validation) // _LATER_PICKS)
    return np.arange(0, len(data.validation), step)


def surprise(
    network: DebcmNetwork, data: TrainingData, config: ModelConfig, *, match: bool = True
) -> Float32Array:
    """Return float32[n]: - log P(pick | video, uploader) of later picks, nats.

    Habits must not speak for a model that has absorbed them: what explains picks besides the
    match is fitted to the later picks for each model anew.

    Args:
        network: its explaining parameters are changed, in eval mode after.
        data: at most 2,048 of its validation picks are looked at, evenly spread.
        config: of the student.
        match: False explains the picks without the towers, by preference and popularity alone.
    """
    everything = replace(data, train=_joined(data.train, data.validation))
    objective = PickChoice(network, None, everything, config).eval()
    if not match:
        network.expertise.requires_grad_(False).fill_(0.0)
    parts = embedded(objective, len(data.train) + _later(data))
    explain(objective, parts)
    with torch.no_grad():
        each = [F.cross_entropy(*objective.choice(part), reduction="none") for part in parts]
    found: Float32Array = torch.cat(each).cpu().numpy()
    return found


def nearest_as_good(surprises: npt.NDArray[np.floating], uploader: Int64Array) -> int:
    """Return the first row whose gain over row 0 is the best one's, less a standard error.

    The one-standard-error rule (Breiman et al., 1984): of models that the data cannot tell
    apart, the one that moved least. It is row 0 itself unless the other is surely better.

    Args:
        surprises: [S, n], of n picks under S models; row 0 is the teacher's.
        uploader: int64[n], who made the picks.
    """
    gain: Float64Array = (surprises[:1] - surprises).astype(np.float64)
    mean = gain.mean(axis=1)
    best = int(mean.argmax())
    _, error = _mean_and_error(gain[best], uploader)
    near = int(np.argmax(mean >= mean[best] - error))
    return near if surely_less(surprises[near], surprises[0], uploader) else 0


def surely_less(
    one: npt.NDArray[np.floating], other: npt.NDArray[np.floating], uploader: Int64Array
) -> bool:
    """Return whether one model's surprises are less than another's beyond chance.

    Paired pick by pick, and over uploaders: picks of one uploader resemble each other and are no
    independent witnesses. One uploader's picks are never sure.

    Args:
        one: [n], surprises in nats.
        other: [n], of the same picks.
        uploader: int64[n], who made them.
    """
    mean, error = _mean_and_error((other - one).astype(np.float64), uploader)
    witnesses = len(np.unique(uploader))
    return witnesses > 1 and mean > float(t.ppf(SURE, witnesses - 1)) * error


def _mean_and_error(values: Float64Array, uploader: Int64Array) -> tuple[float, float]:
    """Return the mean and its standard error, infinite where all are one uploader's."""
    _, row = np.unique(uploader, return_inverse=True)
    count, mean = int(row.max()) + 1, float(values.mean())
    if count < 2:
        return mean, float("inf")
    apart = np.bincount(row, values - mean)
    return mean, float(np.sqrt(np.square(apart).sum() * count / (count - 1)) / len(values))


def _joined(first: Picks, second: Picks) -> Picks:
    return Picks(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("video", "music", "uploader", "time", "preference")
        )
    )
