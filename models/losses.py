"""Losses that the default uses, as pure functions. B rows, C candidate tracks, D dimensions.

docs/model.md gives the formulas. Losses that only the paper's variants use are in `models.paper`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def choice_loss(logits: Tensor, chosen: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean negative log-likelihood of the chosen columns (softmax, InfoNCE).

    Args:
        logits: [B, C], nats; -inf excludes a column from its row's alternatives.
        chosen: int64[B], columns whose logits are finite.
        weights: [B] that sum to one, or None for equal weights.
    """
    loss = F.cross_entropy(logits.float(), chosen, reduction="none")
    return loss.mean() if weights is None else (weights * loss).sum()


class _ScoreDistillation(torch.autograd.Function):
    """KL of two softmax distributions with the gradient softmax(student) - softmax(teacher).

    Autograd would keep five B x C matrices for this; the written-out gradient needs one.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        log_target = F.log_softmax(teacher.float(), dim=1)
        log_student = F.log_softmax(student.float(), dim=1)
        target = log_target.exp()
        loss = torch.einsum("bc,bc->", target, log_target.sub_(log_student)) / len(student)
        ctx.save_for_backward(log_student.exp_().sub_(target).div_(len(student)))
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradients[0], None


def score_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean KL(teacher || student) of softmax distributions over the candidates.

    Args:
        student: [B, C] scores in nats.
        teacher: [B, C] scores in nats; gets no gradient.
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
