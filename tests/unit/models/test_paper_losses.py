"""Losses of the paper's variants, against slow plain versions; faults 1, 2 and 5."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import paper
from models.losses import gaussian_kl


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_standard_normal_kl_is_the_gaussian_kl_to_the_standard_normal() -> None:
    mean, logvar, zero = random(3, 4), random(3, 4, seed=1), torch.zeros(3, 4, dtype=torch.float64)
    torch.testing.assert_close(
        paper.standard_normal_kl(mean, logvar), gaussian_kl(mean, logvar, zero, zero)
    )


def test_the_kl_falls_towards_the_teacher_and_the_released_loss_rises() -> None:
    """Fault 2: the released loss of shifts 0, 1/2, 1, 2 is 0, -1/8, -1/2, -2."""
    zero = torch.zeros(1, 1)
    shifts = [torch.full((1, 1), shift) for shift in (0.0, 0.5, 1.0, 2.0)]
    true = [float(gaussian_kl(shift, zero, zero, zero)) for shift in shifts]
    released = [float(paper.released_distillation(shift, zero, zero, zero)) for shift in shifts]
    assert true == pytest.approx([0.0, 0.125, 0.5, 2.0])
    assert released == pytest.approx([0.0, -0.125, -0.5, -2.0])


def plain_hinge(scores: Tensor, same: Tensor) -> float:
    total = 0.0
    for row in range(len(scores)):
        hinge = [
            0.0
            if same[row, column]
            else max(0.0, paper.MARGIN - float(scores[row, row] - scores[row, column]))
            for column in range(len(scores))
        ]
        total += sum(sorted(hinge)[-paper.HARDEST :]) / min(paper.HARDEST, len(scores))
    return total / len(scores)


@pytest.mark.parametrize("rows", [6, 50])
def test_hard_matching_equals_a_plain_loop(rows: int) -> None:
    scores = 0.1 * random(rows, rows)
    track = torch.arange(rows) // 2
    same = track[:, None] == track[None, :]
    got = float(paper.hard_matching(scores, same))
    assert got == pytest.approx(plain_hinge(scores, same))
    diagonal = torch.eye(rows, dtype=torch.bool)
    got = float(paper.hard_matching(scores, None))
    assert got == pytest.approx(plain_hinge(scores, diagonal))


def test_released_matching_equals_a_plain_loop() -> None:
    scores = random(50, 50)
    total = 0.0
    for row in range(50):
        gaps = [max(0.0, float(scores[row, row] - s) - paper.MARGIN) for s in scores[row]]
        total -= sum(sorted(gaps)[-40:]) / 40
    assert float(paper.released_matching(scores)) == pytest.approx(total / 50)


def test_a_violating_negative_gets_a_gradient_only_in_the_fixed_loss() -> None:
    """Fault 1: a negative that beats its positive has to get a gradient."""
    scores = torch.tensor([[0.5, 0.9], [0.0, 0.5]], requires_grad=True)
    paper.released_matching(scores).backward()
    assert scores.grad is not None
    assert scores.grad[0].tolist() == [0.0, 0.0]
    assert scores.grad[1, 0] > 0
    scores.grad = None
    paper.hard_matching(scores, None).backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] > 0
    assert scores.grad[0, 0] < 0
    assert scores.grad[1].tolist() == [0.0, 0.0]


def test_the_same_track_in_two_rows_is_a_negative_only_in_the_released_loss() -> None:
    """Fault 5: rows 0 and 1 have the same track."""
    scores = torch.tensor([[0.5, 0.48, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]])
    track = torch.tensor([4, 4, 9])
    fixed = scores.clone().requires_grad_()
    paper.hard_matching(fixed, track[:, None] == track[None, :]).backward()
    assert fixed.grad is not None
    assert float(fixed.grad[0, 1]) == 0.0
    unmasked = scores.clone().requires_grad_()
    paper.hard_matching(unmasked, None).backward()
    assert unmasked.grad is not None
    assert float(unmasked.grad[0, 1]) > 0
    released = (scores - 0.4 * (1 - torch.eye(3))).requires_grad_()
    paper.released_matching(released).backward()
    assert released.grad is not None
    assert float(released.grad[0, 1]) > 0


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)))
def test_losses_do_not_depend_on_the_order_of_a_batch(order: list[int]) -> None:
    scores = 0.1 * random(6, 6)
    moved = scores[order][:, order]
    for loss in (paper.hard_matching, paper.released_matching):
        torch.testing.assert_close(loss(scores, None), loss(moved, None))


def test_gradients_of_smooth_losses() -> None:
    inputs = [random(3, 4, seed=seed).requires_grad_() for seed in range(4)]
    assert torch.autograd.gradcheck(paper.released_distillation, inputs)
    assert torch.autograd.gradcheck(paper.standard_normal_kl, inputs[:2])
    assert torch.autograd.gradcheck(
        lambda s: paper.hard_matching(s, None), [random(4, 4).requires_grad_()]
    )
