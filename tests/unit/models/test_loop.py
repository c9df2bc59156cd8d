"""The training loop: steps, epochs, selection of an epoch, diverging losses."""

from __future__ import annotations

import numpy as np
import pytest

from models import ModelConfig, TrainingData, fit
from models.loop import Plan, _steps, selection_metric
from models.variant import Stage


def test_the_training_log_has_an_entry_per_epoch(
    training: TrainingData, quick: ModelConfig
) -> None:
    model = fit(training, quick)
    stages = [(log.stage, log.epoch) for log in model.training_log]
    assert stages == [(stage, epoch) for stage in ("teacher", "student") for epoch in range(3)]
    student = model.training_log[-1]
    assert set(student.losses) == {"picks", "distil"}
    assert student.validation is not None
    assert 0 <= student.validation <= 1
    assert student.seconds > 0


def test_selection_keeps_the_best_epoch(training: TrainingData, quick: ModelConfig) -> None:
    config = quick.model_copy(update={"select": "best", "epochs": 6, "teacher": False})
    model = fit(training, config)
    metric = [log.validation or 0.0 for log in model.training_log]
    best = int(np.argmax(metric))
    rows = np.arange(len(training.validation))
    got = selection_metric(model.network, training, training.validation, rows)
    assert got == pytest.approx(metric[best])


def test_a_diverging_loss_stops_with_a_reason(training: TrainingData, quick: ModelConfig) -> None:
    config = quick.model_copy(update={"picks_weight": 1.0, "learning_rate": 1e30})
    reason = r"(?s)the loss '\w+' of student epoch 0 is nan.*Lower the learning rate"
    with pytest.raises(FloatingPointError, match=reason):
        fit(training, config)


@pytest.mark.parametrize(
    ("rows", "batch", "sizes"),
    [
        (5000, 1024, [1024] * 4),
        (1250, 1024, [312] * 4),
        (300, 1024, [75] * 4),
        (200, 1024, [64] * 3),
        (40, 1024, [40]),
        (600, 100, [100] * 6),
    ],
)
def test_an_epoch_of_few_rows_has_several_steps(rows: int, batch: int, sizes: list[int]) -> None:
    """With one step per epoch, a training of a dozen epochs would have a dozen steps."""
    plan = Plan(Stage.STUDENT, rows, batch, 1, 1e-3, lambda step, total: 1.0)
    steps = _steps(plan, ModelConfig(), epoch=0)
    assert [len(step) for step in steps] == sizes
    assert len(np.unique(np.concatenate(steps))) == sum(sizes)
