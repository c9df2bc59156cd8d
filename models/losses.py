"""Every loss as a pure function of tensors. B rows, C candidate tracks, D dimensions.

docs/model.md derives each formula; "the released code" is the paper's published one,
whose faults are kept here under names that say so.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

MARGIN = 0.05
"""Margin of the paper's matching loss, in units of the inner product."""

HARDEST = 40
"""Negatives of a row that the paper's matching loss looks at."""


def choice_loss(logits: Tensor, chosen: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean negative log-likelihood of the chosen columns (softmax choice).

    Args:
        logits: [B, C], nats; -inf marks a track that is not an alternative.
        chosen: int64[B], a column that is not -inf.
        weights: [B] that sum to one, or None for the plain mean.
    """
    loss = F.cross_entropy(logits.float(), chosen, reduction="none")
    return loss.mean() if weights is None else (weights * loss).sum()


class _ScoreDistillation(torch.autograd.Function):
    """KL of two softmax distributions with the gradient softmax(student) - softmax(teacher).

    Autograd's own chain would keep and walk five B x C matrices; this keeps one.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        wanted = F.log_softmax(teacher.float(), dim=1)
        given = F.log_softmax(student.float(), dim=1)
        probability = wanted.exp()
        loss = torch.einsum("bc,bc->", probability, wanted.sub_(given)) / len(student)
        ctx.save_for_backward(given.exp_().sub_(probability).div_(len(student)))
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradients[0], None


def score_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean KL(teacher || student) of softmax distributions over the candidates.

    Args:
        student: [B, C] scores in nats.
        teacher: [B, C] scores in nats, taken as constant.
    """
    loss: Tensor = _ScoreDistillation.apply(student, teacher)  # type: ignore[no-untyped-call]
    return loss


def gaussian_kl(mean: Tensor, logvar: Tensor, to_mean: Tensor, to_logvar: Tensor) -> Tensor:
    """Return the mean over rows of KL(N(mean, var) || N(to_mean, to_var)), diagonal.

    Args:
        mean: [B, D].
        logvar: [B, D], natural logarithm of the variances.
        to_mean: [B, D].
        to_logvar: [B, D].
    """
    ratio = torch.exp(logvar - to_logvar)
    square = (mean - to_mean).square() * torch.exp(-to_logvar)
    return 0.5 * (to_logvar - logvar + ratio + square - 1.0).sum(dim=1).mean()


def released_distillation(
    mean: Tensor, logvar: Tensor, to_mean: Tensor, to_logvar: Tensor
) -> Tensor:
    """Return the released code's distillation term: `gaussian_kl` with one wrong sign.

    The quadratic term is subtracted, so the loss falls as the means part (fault 2).
    """
    ratio = torch.exp(logvar - to_logvar)
    square = (mean - to_mean).square() * torch.exp(-to_logvar)
    return 0.5 * (to_logvar - logvar + ratio - square - 1.0).sum(dim=1).mean()


def standard_normal_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return the mean over rows of KL(N(mean, var) || N(0, I)); mean, logvar [B, D]."""
    return 0.5 * (mean.square() + torch.exp(logvar) - 1.0 - logvar).sum(dim=1).mean()


def released_matching(scores: Tensor) -> Tensor:
    """Return the released code's matching loss of one direction.

    It maximises the 40 largest of clamp(positive - negative - margin, 0): the *easiest*
    negatives, while one that beats the positive gets no gradient (fault 1). Positives are
    the diagonal only (fault 5).

    Args:
        scores: [B, B], inner products; the diagonal holds the positives.
    """
    easiest = scores.topk(min(HARDEST, len(scores)), dim=1, largest=False, sorted=False).values
    return -F.relu(scores.diagonal()[:, None] - MARGIN - easiest).mean()


def hard_matching(scores: Tensor, same: Tensor | None) -> Tensor:
    """Return the paper's matching loss, mended: hinge over the 40 hardest negatives.

    Mean of clamp(margin - positive + negative, 0) over each row's largest violations.

    Args:
        scores: [B, B], inner products; the diagonal holds the positives.
        same: bool[B, B], true where row and column hold the same track, which is no
            negative; None takes every other row for a negative.
    """
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device) if same is None else same
    others = scores.masked_fill(own, -torch.inf)
    hardest = others.topk(min(HARDEST, len(scores)), dim=1, sorted=False).values
    return F.relu(MARGIN - scores.diagonal()[:, None] + hardest).mean()


def contrastive_loss(scores: Tensor, own: Tensor) -> Tensor:
    """Return InfoNCE of one direction: each row's own column against the others.

    Args:
        scores: [B, C] in nats; -inf marks a column that is no negative.
        own: int64[B], the column of each row's pair.
    """
    return choice_loss(scores, own)
