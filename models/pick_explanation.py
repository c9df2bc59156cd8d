"""Fits the parameters that explain picks besides the match: a small convex problem.

With fixed towers, the logit of a pick is linear in preference, lean, popularity and expertise.
Their likelihood then has one maximum, which L-BFGS finds. Without this fit, the towers would learn
preference and popularity as match in the first steps and would unlearn them slowly or never.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.arrays import Int64Array
from models.objectives import PickChoice, StepEmbeddings

_MAX_PICKS = 4096
_STEP_ROWS = 1024
_FIT_ITERATIONS = 30

# With an expertise of zero or less, the towers would get no gradient or the opposite one.
_MIN_EXPERTISE = 0.1


def fit_before_training(objective: PickChoice) -> None:
    """Fit the explaining parameters to the training picks before the towers are trained.

    Without a teacher, the towers are untrained and their match is noise. It is left out of the
    fit, and the expertise of uploaders is set to one.

    Args:
        objective: of the student. Those of its network's explaining parameters that are switched
            on are changed. At most 4,096 of its picks are used, evenly spread.
    """
    network, untrained = objective.network, objective.teacher is None
    training, expertise = network.training, network.expertise
    learns = expertise.requires_grad
    if untrained:
        expertise.requires_grad_(False).fill_(0.0)
    network.eval()
    rows = np.arange(0, len(objective.data.train), -(-len(objective.data.train) // _MAX_PICKS))
    fit_explaining_parameters(objective, embed_steps(objective, rows))
    with torch.no_grad():
        expertise.fill_(1.0) if untrained else expertise.clamp_(min=_MIN_EXPERTISE)
    expertise.requires_grad_(learns)
    network.train(training)


def embed_steps(objective: PickChoice, rows: Int64Array) -> list[StepEmbeddings]:
    """Embed picks `rows` int64[n] in steps, without gradients; samples are seeded."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(objective.config.seed)
        return [
            objective.embed(rows[start : start + _STEP_ROWS])
            for start in range(0, len(rows), _STEP_ROWS)
        ]


def fit_explaining_parameters(objective: PickChoice, steps: list[StepEmbeddings]) -> None:
    """Fit the explaining parameters to steps: maximum a posteriori, prior N(current value, 1).

    Args:
        objective: its network's explaining parameters are changed.
        steps: from `embed_steps`.
    """
    parameters = [p for p in objective.network.explaining_parameters() if p.requires_grad]
    if not parameters:
        return
    start = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=_FIT_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        squares = [(p - s).square().sum() for p, s in zip(parameters, start, strict=True)]
        total = 0.5 * torch.stack(squares).sum()
        total.backward()  # type: ignore[no-untyped-call]
        # Backward per step: the graphs of all steps together would hold every score at once.
        for step in steps:
            loss = F.cross_entropy(*objective.choice(step), reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        return total.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
