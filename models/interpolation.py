"""How far from its teacher a student may go: as far as later picks confirm, and no further.

A student starts as its teacher's copy, so the straight line between both sets of weights holds
working models (WiSE-FT, Wortsman et al., arXiv 2109.01903). Few or careless picks teach a student
habits and noise that a loss on these very picks cannot tell from match; picks that it was not
trained on can.
"""

import logging
from copy import deepcopy
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.config import ModelConfig
from models.data import Picks, TrainingData
from models.networks import DebcmNetwork
from models.objectives import PickChoice, Step

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Points of the line that are compared: 0 is the teacher, 1 the trained student."""

_LATER_PICKS = 2048
_ROWS = 1024
_FIT_STEPS = 20

logger = logging.getLogger(__name__)


def interpolate(
    network: DebcmNetwork, teacher: DebcmNetwork, data: TrainingData, config: ModelConfig
) -> float:
    """Move a trained student back along the line to its teacher.

    Args:
        network: the student's, changed in place.
        teacher: where the student started.
        data: its validation picks decide; without any, the student stays where it is.
        config: the student's; its consideration set and confounders explain the later picks.

    Returns:
        The share of the way that it still is from its teacher, one of `SHARES`.
    """
    if not len(data.validation):
        return 1.0
    surprises = np.stack([surprise(between(teacher, network, s), data, config) for s in SHARES])
    share = SHARES[nearest_as_good(surprises)]
    logger.info("student: %.2f of the way from its teacher", share)
    network.load_state_dict(between(teacher, network, share).state_dict())
    return share


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


def surprise(network: DebcmNetwork, data: TrainingData, config: ModelConfig) -> Floats:
    """Return float32[n]: - log P(pick | video, uploader) of later picks, nats.

    Habits must not speak for a model that has absorbed them: what explains picks besides the
    match is fitted to the later picks for each model anew.

    Args:
        network: its explaining parameters are changed, in eval mode after.
        data: at most 2,048 of its validation picks are looked at, evenly spread.
        config: of the student.
    """
    everything = replace(data, train=_joined(data.train, data.validation))
    objective = PickChoice(network, None, everything, config).eval()
    step = -(-len(data.validation) // _LATER_PICKS)
    rows = np.arange(len(data.train), len(everything.train), step)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        parts = [
            objective.embed(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)
        ]
    _explain(objective, parts)
    with torch.no_grad():
        each = [F.cross_entropy(*objective.choice(part), reduction="none") for part in parts]
    found: Floats = torch.cat(each).cpu().numpy()
    return found


def _explain(objective: PickChoice, parts: list[Step]) -> None:
    """Fit the explaining parameters: the most probable ones, a priori N(trained, 1)."""
    free = [each for each in objective.network.explanations() if each.requires_grad]
    trained = [each.detach().clone() for each in free]
    optimizer = torch.optim.LBFGS(free, max_iter=_FIT_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits, picks = zip(*(objective.choice(part) for part in parts), strict=True)
        apart = [(a - b).square().sum() for a, b in zip(free, trained, strict=True)]
        each = [F.cross_entropy(a, b, reduction="sum") for a, b in zip(logits, picks, strict=True)]
        loss = torch.stack(each).sum() + 0.5 * torch.stack(apart).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def nearest_as_good(surprises: npt.NDArray[np.floating]) -> int:
    """Return the first row whose gain over row 0 is the best one's, less a standard error.

    The one-standard-error rule (Breiman et al., 1984): of models that the data cannot tell
    apart, the one that moved least.

    Args:
        surprises: [S, n], of n picks under S models; row 0 is the teacher's.
    """
    gain: Doubles = (surprises[:1] - surprises).astype(np.float64)
    mean = gain.mean(axis=1)
    best = int(mean.argmax())
    error = gain[best].std() / np.sqrt(gain.shape[1])
    return int(np.argmax(mean >= mean[best] - error))


def _joined(first: Picks, second: Picks) -> Picks:
    return Picks(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("video", "music", "uploader", "time", "preference")
        )
    )
