"""Declares the presets of the paper's variants, and the fields of ModelConfig that they ignore.

Separate from `models.paper`, so that reading settings does not load torch.
"""

from __future__ import annotations

from typing import Any

# Sizes and rates of the paper's published code.
RELEASED: dict[str, Any] = {
    "variant": "released",
    "dim": 128,
    "dropout": 0.2,
    "teacher_dropout": 0.2,
    "teacher_batch_size": 1024,
    "epochs": 20,
    "teacher_epochs": 20,
    "learning_rate": 1e-3,
    "teacher_learning_rate": 1e-4,
    "weight_decay": 1e-3,
    "distill": "latent",
    "distill_weight": 5e-5,
    "adjustment": "batch",
    "popularity": False,
    "masking": False,
    "contrast": "batch",
    "select": "best",
    "interpolate": False,
}
# `masking` fixes fault 5 (docs/model.md). The fixed losses have a rate and weights of their own.
PAPER: dict[str, Any] = RELEASED | {
    "variant": "paper",
    "teacher_learning_rate": 1e-3,
    "distill_weight": 1.0,
    "masking": True,
    "kl_weight": 1e-3,
}

IGNORED_BY_PAPER = (
    "hidden",
    "temperature",
    "picks_weight",
    "popularity",
    "contrast",
    "history",
    "known",
    "ips",
    "sample",
    "interpolate",
)
IGNORED_BY_RELEASED = (*IGNORED_BY_PAPER, "masking")
