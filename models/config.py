"""Declares the settings of a model and the presets of the three variants."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.paper_presets import IGNORED_BY_PAPER, IGNORED_BY_RELEASED, PAPER, RELEASED

VariantName = Literal["debcm", "paper", "released"]

# Defaults of a variant that differ from the fields' own.
_PRESETS: dict[str, dict[str, Any]] = {"paper": PAPER, "released": RELEASED}

# Fields that a variant does not read; setting one of them would have no effect, so it is refused.
_IGNORED: dict[VariantName, tuple[str, ...]] = {
    "debcm": ("kl_weight",),
    "paper": IGNORED_BY_PAPER,
    "released": IGNORED_BY_RELEASED,
}

# torch itself is not imported for the settings.
_DEVICE = re.compile(r"cpu|(cuda|xpu)(:\d+)?|mps")


class ModelConfig(BaseModel):
    """Architecture, objective and training of a model; the defaults are those of `debcm`."""

    # Field names and values are part of settings files and run ids: renaming one breaks both. Hence
    # `history` and `contrast = "history"`, which mean the tracks that an uploader picked.
    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: VariantName = Field(
        "debcm",
        description="objective and architecture: `debcm` (default), `paper` (the paper's, with the "
        "faults of its released code fixed) or `released` (the released code's, with its faults); "
        "the defaults below are those of debcm, the other variants have their own",
    )
    dim: int = Field(64, description="dimensions of the latent space", gt=0)
    hidden: int = Field(256, description="width of the hidden layer of a debcm tower", gt=0)
    dropout: float = Field(
        0.1, description="share of the student's inputs dropped while training", ge=0, lt=1
    )
    teacher_dropout: float = Field(
        0.3,
        description="share of the teacher's inputs dropped while training; higher, because the "
        "teacher has fewer rows",
        ge=0,
        lt=1,
    )
    epochs: int = Field(12, description="passes of the student over the picks", gt=0)
    teacher_epochs: int = Field(25, description="passes of the teacher over the segments", gt=0)
    batch_size: int = Field(
        1024,
        description="picks per training step, over all processes; reduced if an epoch would have "
        "fewer than four steps",
        gt=0,
    )
    teacher_batch_size: int = Field(
        512,
        description="segments per training step, over all processes; reduced in the same way",
        gt=1,
    )
    learning_rate: float = Field(1e-3, description="highest learning rate of the student", gt=0)
    teacher_learning_rate: float = Field(
        2e-3, description="highest learning rate of the teacher", gt=0
    )
    weight_decay: float = Field(
        1e-2, description="weight decay of AdamW, per step and learning rate", ge=0
    )
    temperature: float = Field(
        0.2, description="initial value of the learned temperature of scores", gt=0
    )
    teacher: bool = Field(
        True, description="train a teacher on PGC segments, from which the student learns"
    )
    distill: Literal["none", "latent", "scores"] = Field(
        "scores",
        description="what the student learns from the teacher: nothing, its latents, or its "
        "distribution of scores over a sample of the catalogue",
    )
    distill_weight: float = Field(1.0, description="weight of the distillation loss", ge=0)
    picks_weight: float = Field(2.0, description="weight of the loss on uploaders' picks", ge=0)
    adjustment: Literal["none", "batch", "score", "probability"] = Field(
        "score",
        description="backdoor adjustment for genre preference: none; `batch`, the batch-level "
        "Monte Carlo average; or, debcm only, conditioning on the uploader while training and "
        "averaging exactly over the population when serving: the `score`, or the `probability` "
        "of a pick",
    )
    popularity: bool = Field(
        True, description="explain picks by the track's popularity as well (logQ correction)"
    )
    masking: bool = Field(
        True, description="do not use a row's own track as its negative when another row has it"
    )
    contrast: Literal["history", "catalogue", "batch"] = Field(
        "history",
        description="alternatives to a pick: `history`, the uploader's choice set, which is the "
        "tracks that the uploader picked and a few more; `catalogue`, all tracks; or `batch`, the "
        "tracks of the step",
    )
    history: int = Field(
        64, description="number of an uploader's latest tracks in the choice set", gt=0
    )
    known: int = Field(
        20, description="number of further tracks of the catalogue in the choice set", gt=0
    )
    kl_weight: float = Field(
        1.0, description="weight of the KL of the latents to N(0, I) in paper and released", ge=0
    )
    ips: bool = Field(
        False,
        description="weight each pick by its clipped, self-normalised inverse propensity",
    )
    sample: int = Field(
        1024,
        description="tracks drawn at random per step: alternatives to the step's picks, and the "
        "tracks whose scores are distilled",
        gt=1,
    )
    select: Literal["best", "last"] = Field(
        "last", description="keep the epoch with the best validation metric, or the last"
    )
    interpolate: bool = Field(
        True,
        description="interpolate between teacher and student, so that few or careless picks do no "
        "harm: of six points, the one nearest to the teacher that predicts later picks as well as "
        "the best (within a standard error); if the teacher holds the student back, also train "
        "students with a lower teacher weight or without a teacher (debcm with a teacher)",
    )
    seed: int = Field(0, description="seed of initial weights, order and dropout", ge=0)
    device: str = Field("cpu", description="torch device, for example cpu or cuda")
    bf16: bool = Field(False, description="compute matrix products in bfloat16")

    @field_validator("device")
    @classmethod
    def _is_a_torch_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError("a torch device expected: cpu, cuda, cuda:0 (1, 2, ...), mps or xpu")
        return device

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, given: Any) -> Any:
        # If the variant is not a string, the check of the field itself reports it.
        if not isinstance(given, dict) or not isinstance(given.get("variant"), str):
            return given
        return _PRESETS.get(given["variant"], {}) | given

    @model_validator(mode="after")
    def _refuse_ignored_fields(self) -> Self:
        preset = _PRESETS.get(self.variant, {})
        for name in _IGNORED[self.variant]:
            default = preset.get(name, type(self).model_fields[name].default)
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name} is not read by variant {self.variant}, so {getattr(self, name)!r} "
                    f"would have no effect: remove it, or set it to {default!r}"
                )
        if self.variant != "debcm" and self.distill == "scores":
            raise ValueError(
                f"distill 'scores' needs variant debcm; {self.variant} has 'latent' and 'none'"
            )
        if self.variant != "debcm" and self.adjustment in ("score", "probability"):
            raise ValueError(
                f"adjustment {self.adjustment!r} needs variant debcm; {self.variant} has "
                "'batch' and 'none'"
            )
        return self

    @property
    def uses_teacher(self) -> bool:
        """Whether the student learns from a teacher, so that one has to be trained."""
        return self.teacher and self.distill != "none"

    @classmethod
    def preset(cls, name: VariantName, **changes: Any) -> Self:
        """Return the named variant's configuration with the given fields changed.

        Args:
            name: one of the three variants.
            **changes: fields to set, for example `epochs=5`.

        Raises:
            ValueError: a field is unknown or out of range (pydantic.ValidationError).
        """
        return cls.model_validate({"variant": name, **changes})
