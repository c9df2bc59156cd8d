"""What explains a pick besides the match, fitted by itself: a few numbers, a convex problem.

The logit of a pick is linear in preference, lean, popularity and expertise while the towers stand
still, so their likelihood has one maximum and L-BFGS finds it. Towers that learn from picks whose
explanation still stands at zero take habits for match first, and give them back slowly or never.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.arrays import Int64Array
from models.objectives import PickChoice, Step

_PICKS = 4096
_ROWS = 1024
_FIT_STEPS = 30
_LEAST_EXPERTISE = 0.1
"""Nobody is taken to act against the match: the towers could not learn from such picks."""


def explain_first(objective: PickChoice) -> None:
    """Fit the explaining parameters to the training picks before the towers learn.

    Towers that nobody has trained yet have no match to speak of: they are left out of the fit, and
    uploaders are taken for experts.

    Args:
        objective: of the student; its network's explaining parameters are changed, those that are
            switched off are not. At most 4,096 of its picks are looked at, evenly spread.
    """
    network, untaught = objective.network, objective.taught is None
    training, expert = network.training, network.expertise
    learns = expert.requires_grad
    if untaught:
        expert.requires_grad_(False).fill_(0.0)
    network.eval()
    rows = np.arange(0, len(objective.data.train), -(-len(objective.data.train) // _PICKS))
    explain(objective, embedded(objective, rows))
    with torch.no_grad():
        expert.fill_(1.0) if untaught else expert.clamp_(min=_LEAST_EXPERTISE)
    expert.requires_grad_(learns)
    network.train(training)


def embedded(objective: PickChoice, rows: Int64Array) -> list[Step]:
    """Return the steps of picks `rows` int64[n], embedded without gradients, seeded samples."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(objective.config.seed)
        return [
            objective.embed(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)
        ]


def explain(objective: PickChoice, steps: list[Step]) -> None:
    """Fit the explaining parameters to steps: the most probable ones, a priori N(as found, 1).

    Args:
        objective: its network's explaining parameters are changed.
        steps: what `embedded` returned.
    """
    free = [each for each in objective.network.explanations() if each.requires_grad]
    if not free:
        return
    found = [each.detach().clone() for each in free]
    optimizer = torch.optim.LBFGS(free, max_iter=_FIT_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        apart = [(a - b).square().sum() for a, b in zip(free, found, strict=True)]
        total = 0.5 * torch.stack(apart).sum()
        total.backward()  # type: ignore[no-untyped-call]
        # One step's graph at a time: together they would hold every score at once.
        for step in steps:
            loss = F.cross_entropy(*objective.choice(step), reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        return total.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
