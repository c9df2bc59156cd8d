"""Everything that can be set about the models, with the three named variants as presets."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Variant = Literal["debcm", "paper", "released"]

_RELEASED: dict[str, Any] = {
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
_PAPER: dict[str, Any] = _RELEASED | {
    "variant": "paper",
    "teacher_learning_rate": 1e-3,
    "distill_weight": 1.0,
    "masking": True,
    "kl_weight": 1e-3,
}
_DEFAULTS: dict[str, dict[str, Any]] = {"released": _RELEASED, "paper": _PAPER}

_ONLY_DEBCM = (
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
_UNREAD: dict[Variant, tuple[str, ...]] = {
    "debcm": ("kl_weight",),
    "paper": _ONLY_DEBCM,
    "released": (*_ONLY_DEBCM, "masking"),
}
"""Fields that a variant does not read: set to anything but its default, they would do nothing."""


class ModelConfig(BaseModel):
    """Shape, objective and training of one model; the defaults are the `debcm` variant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: Variant = Field(
        "debcm",
        description="objective and architecture: `debcm` (default), `paper` (the paper's with its "
        "released code's faults mended) or `released` (the released code's, faults included); the "
        "defaults below are debcm's, each of the others has its own",
    )
    dim: int = Field(64, description="dimensions of the latent space", gt=0)
    hidden: int = Field(256, description="width of the hidden layer of a debcm tower", gt=0)
    dropout: float = Field(
        0.1, description="share of the student's inputs dropped while training", ge=0, lt=1
    )
    teacher_dropout: float = Field(
        0.3, description="the same of the teacher, which has fewer rows to learn from", ge=0, lt=1
    )
    epochs: int = Field(12, description="passes of the student over the picks", gt=0)
    teacher_epochs: int = Field(25, description="passes of the teacher over the segments", gt=0)
    batch_size: int = Field(
        1024,
        description="picks of a training step, over all processes; fewer where an epoch would have "
        "less than four steps",
        gt=0,
    )
    teacher_batch_size: int = Field(
        512, description="segments of a training step, over all processes; fewer likewise", gt=1
    )
    learning_rate: float = Field(1e-3, description="the student's highest learning rate", gt=0)
    teacher_learning_rate: float = Field(
        2e-3, description="the teacher's highest learning rate", gt=0
    )
    weight_decay: float = Field(1e-2, description="AdamW weight decay, 1/step/rate", ge=0)
    temperature: float = Field(
        0.2, description="first value of the learned temperature of a score", gt=0
    )
    teacher: bool = Field(True, description="train a teacher on PGC segments and learn from it")
    distill: Literal["none", "latent", "scores"] = Field(
        "scores",
        description="what the student takes from the teacher: nothing, its latents, or its "
        "distribution of scores over a sample of the catalogue",
    )
    distill_weight: float = Field(1.0, description="weight of the distillation loss", ge=0)
    picks_weight: float = Field(2.0, description="weight of the loss on uploaders' picks", ge=0)
    adjustment: Literal["none", "batch", "score", "probability"] = Field(
        "score",
        description="backdoor adjustment for genre preference: none; the batch-level Monte Carlo "
        "average; or conditioning on the uploader while training, and serving the exact average "
        "over the population of the `score`, or of the `probability` of a pick (both debcm only)",
    )
    popularity: bool = Field(
        True, description="explain picks by the track's popularity too (logQ correction)"
    )
    masking: bool = Field(
        True, description="never train a row's own track, met in another row, as its negative"
    )
    contrast: Literal["history", "catalogue", "batch"] = Field(
        "history",
        description="what a pick is contrasted with: what its uploader knows, which is the "
        "uploader's own history and a few tracks more (the consideration set); the whole "
        "catalogue; or the batch's tracks",
    )
    history: int = Field(64, description="latest tracks of an uploader that count as known", gt=0)
    known: int = Field(
        20, description="tracks besides, anywhere in the catalogue, that an uploader knows", gt=0
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
        description="tracks drawn at random for a step, with which its picks are contrasted and on "
        "which its score distributions are compared",
        gt=1,
    )
    select: Literal["best", "last"] = Field(
        "last", description="keep the epoch with the best validation metric, or the last"
    )
    interpolate: bool = Field(
        True,
        description="move the student along the line from its teacher, to the nearest of six "
        "points that explains later picks as well as the best does (within a standard error): few "
        "or careless picks then do no harm; and train further students, which hear it less or not "
        "at all, where it holds the first one back (debcm with a teacher)",
    )
    seed: int = Field(0, description="seed of first weights, order and dropout", ge=0)
    device: str = Field("cpu", description="torch device, for instance cpu or cuda")
    bf16: bool = Field(False, description="compute matrix products in bfloat16")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_variant(cls, given: Any) -> Any:
        # What is no text, for instance a list, is left to the field's own check.
        if not isinstance(given, dict) or not isinstance(given.get("variant"), str):
            return given
        return _DEFAULTS.get(given["variant"], {}) | given

    @model_validator(mode="after")
    def _switches_of_the_variant(self) -> Self:
        defaults = _DEFAULTS.get(self.variant, {})
        for name in _UNREAD[self.variant]:
            default = defaults.get(name, type(self).model_fields[name].default)
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name} is not read by variant {self.variant}, so {getattr(self, name)!r} "
                    f"would change nothing: leave it out, or leave it at {default!r}"
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
    def taught(self) -> bool:
        """Whether a student learns from a teacher, so that one has to be trained."""
        return self.teacher and self.distill != "none"

    @classmethod
    def preset(cls, name: Variant, **changes: Any) -> Self:
        """Return the named variant's configuration with the given fields changed.

        Args:
            name: one of the three variants.
            **changes: fields to set, for instance `epochs=5`.

        Raises:
            ValueError: a field is unknown or out of range (pydantic.ValidationError).
        """
        return cls.model_validate({"variant": name, **changes})
