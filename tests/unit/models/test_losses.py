from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import losses


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_softmax(row: Tensor) -> list[float]:
    finite = [float(value) for value in row]
    largest = max(finite)
    powers = [math.exp(value - largest) for value in finite]
    return [power / sum(powers) for power in powers]


def test_choice_loss_equals_a_plain_loop() -> None:
    logits, chosen = random(5, 7), torch.tensor([0, 6, 3, 3, 1])
    logits[2, 5] = -torch.inf
    weights = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2])
    each = [
        -math.log(plain_softmax(row)[int(own)]) for row, own in zip(logits, chosen, strict=True)
    ]
    assert float(losses.choice_loss(logits, chosen)) == pytest.approx(sum(each) / 5, rel=1e-5)
    expected = sum(float(w) * loss for w, loss in zip(weights, each, strict=True))
    assert float(losses.choice_loss(logits, chosen, weights)) == pytest.approx(expected, rel=1e-5)


def test_choice_loss_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])
    assert float(losses.choice_loss(logits, torch.tensor([1]))) == pytest.approx(math.log(4.0))


def test_an_excluded_track_gets_no_gradient() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    mask = torch.tensor([[False, False, True]])
    losses.choice_loss(logits.masked_fill(mask, -torch.inf), torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([-0.5, 0.5, 0.0])


def test_score_distillation_equals_a_plain_loop() -> None:
    student, teacher = random(4, 6), random(4, 6, seed=1)
    total = 0.0
    for given_row, wanted_row in zip(student, teacher, strict=True):
        p, q = plain_softmax(wanted_row), plain_softmax(given_row)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    got = float(losses.score_distillation(student, teacher))
    assert got == pytest.approx(total / 4, rel=1e-5)


def test_score_distillation_by_hand() -> None:
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(losses.score_distillation(student, teacher)) == pytest.approx(expected)


def test_score_distillation_has_the_gradient_of_the_written_out_kl() -> None:
    student = random(4, 6).float().requires_grad_()
    teacher = random(4, 6, seed=1).float()
    (3.0 * losses.score_distillation(student, teacher)).backward()
    written = random(4, 6).float().requires_grad_()
    p = teacher.softmax(dim=1)
    kl = (p * (teacher.log_softmax(dim=1) - written.log_softmax(dim=1))).sum() / 4
    (3.0 * kl).backward()
    assert student.grad is not None
    assert written.grad is not None
    torch.testing.assert_close(student.grad, written.grad, rtol=1e-4, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_distillation_is_lowest_at_the_teacher_and_ignores_shifts(seed: int) -> None:
    teacher = random(3, 5, seed=seed)
    other = random(3, 5, seed=seed + 1)
    at_teacher = float(losses.score_distillation(teacher + 2.0, teacher))
    assert at_teacher == pytest.approx(0.0, abs=1e-5)
    assert float(losses.score_distillation(other, teacher)) > at_teacher


def test_gaussian_kl_equals_torch_and_a_value_by_hand() -> None:
    mean, logvar, to_mean, to_logvar = (random(3, 4, seed=seed) for seed in range(4))
    of = torch.distributions.Normal(mean, (logvar / 2).exp())
    to = torch.distributions.Normal(to_mean, (to_logvar / 2).exp())
    expected = torch.distributions.kl_divergence(of, to).sum(dim=1).mean()
    torch.testing.assert_close(losses.gaussian_kl(mean, logvar, to_mean, to_logvar), expected)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    assert float(losses.gaussian_kl(2 * one, zero, zero, zero)) == 2.0


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)))
def test_losses_do_not_depend_on_the_order_of_a_batch(order: list[int]) -> None:
    scores = 0.1 * random(6, 6)
    moved, own = scores[order][:, order], torch.arange(6)
    torch.testing.assert_close(
        losses.choice_loss(scores, own), losses.choice_loss(moved, own), rtol=1e-5, atol=1e-6
    )


def test_gaussian_kl_has_the_right_gradient() -> None:
    inputs = [random(3, 4, seed=seed).requires_grad_() for seed in range(4)]
    assert torch.autograd.gradcheck(losses.gaussian_kl, inputs)
