"""Implements the paper's model: `paper`, and `released` with the faults of the published code.

Yi and Chen, "Debiased Cross-modal Matching for Content-based Micro-video Background Music
Recommendation", arXiv 2208.03633. docs/model.md numbers the faults. B rows, D latent dimensions,
G genre groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.arrays import Int64Array
from models.config import ModelConfig
from models.data import TrainingData
from models.losses import gaussian_kl
from models.networks import Dropout
from models.teacher_cache import TeacherCache, take
from models.variant import Encoder, Network, Objective, Stage, Variant, device_of

# Margin of the matching loss, in units of the inner product.
MARGIN = 0.05

# Number of negatives per row that the matching loss uses.
HARDEST = 40


def released_distillation(
    mean: Tensor, logvar: Tensor, to_mean: Tensor, to_logvar: Tensor
) -> Tensor:
    """Return the released code's distillation loss: `gaussian_kl` with one wrong sign.

    The quadratic term is subtracted, so the loss falls as the means move apart (fault 2).
    """
    ratio = torch.exp(logvar - to_logvar)
    square = (mean - to_mean).square() * torch.exp(-to_logvar)
    return 0.5 * (to_logvar - logvar + ratio - square - 1.0).sum(dim=1).mean()


def standard_normal_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return the mean over rows of KL(N(mean, var) || N(0, I)); mean, logvar [B, D]."""
    return 0.5 * (mean.square() + torch.exp(logvar) - 1.0 - logvar).sum(dim=1).mean()


def released_matching(scores: Tensor, same: Tensor | None = None) -> Tensor:
    """Return the released code's matching loss of one direction.

    It maximises the 40 largest of clamp(positive - negative - margin, 0), which belong to the
    *easiest* negatives; a negative that beats the positive gets no gradient (fault 1).

    Args:
        scores: [B, B], inner products; the diagonal holds the positives.
        same: ignored; another row with the same track counts as a negative (fault 5).
    """
    easiest = scores.topk(min(HARDEST, len(scores)), dim=1, largest=False, sorted=False).values
    return -F.relu(scores.diagonal()[:, None] - MARGIN - easiest).mean()


def hard_matching(scores: Tensor, same: Tensor | None = None) -> Tensor:
    """Return the paper's matching loss of one direction: hinge over the 40 hardest negatives.

    Mean of clamp(margin - positive + negative, 0) over each row's largest violations.

    Args:
        scores: [B, B], inner products; the diagonal holds the positives.
        same: bool[B, B], true where row and column hold the same track, which is then not a
            negative; None uses every other row as a negative.
    """
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device) if same is None else same
    others = scores.masked_fill(own, -torch.inf)
    hardest = others.topk(min(HARDEST, len(scores)), dim=1, sorted=False).values
    return F.relu(MARGIN - scores.diagonal()[:, None] + hardest).mean()


class VariationalEncoder(Encoder):
    """Encoder of one modality: BatchNorm, dropout, and heads for mean and log variance.

    Args:
        columns: columns of the raw features.
        config: sizes and dropout.
        fixed_noise: scale the log variance to length one, as the released code does. The noise
            then has nearly unit variance in every dimension, against a signal of length one
            (fault 4). Otherwise the log variance is learned, within bounds.
    """

    def __init__(self, columns: int, config: ModelConfig, *, fixed_noise: bool) -> None:
        super().__init__(columns)
        self.norm = nn.BatchNorm1d(columns)
        self.dropout = Dropout(config.dropout)
        self.heads = nn.Linear(columns, 2 * config.dim)
        self.fixed_noise = fixed_noise
        if not fixed_noise:
            nn.init.zeros_(self.heads.weight[config.dim :])
            nn.init.constant_(self.heads.bias[config.dim :], -5.0)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mean, logvar), each float32[B, D]; the mean has length one."""
        return self.encode(self.standardise(rows))

    def encode(self, standard: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same as `forward` from rows that are already standardised."""
        mean, logvar = self.heads(self.dropout(self.norm(standard))).chunk(2, dim=1)
        if self.fixed_noise:
            return F.normalize(mean, dim=1), F.normalize(logvar, dim=1)
        return F.normalize(mean, dim=1), logvar.clamp(-10.0, 2.0)


class Decoder(nn.Module):
    """Decodes standardised features of one modality from the other modality's latent."""

    def __init__(self, columns: int, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(config.dim)
        self.dropout = Dropout(config.dropout)
        self.linear = nn.Linear(config.dim, columns)

    def forward(self, latent: Tensor) -> Tensor:
        """Return float32[B, columns], 0 or more."""
        return F.relu(self.linear(self.dropout(self.norm(latent))))


class LinearFusion(nn.Module):
    """The released fusion Linear([c ; z]): c shifts all tracks equally (fault 3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * config.dim, config.dim)

    def forward(self, confounder: Tensor, latent: Tensor) -> Tensor:
        """Return float32[B, D] from confounder [D] and latent [B, D]."""
        fused: Tensor = self.linear(torch.cat([confounder.expand_as(latent), latent], dim=1))
        return fused


class InteractingFusion(nn.Module):
    """The fixed fusion (ours): c scales the latent, so that adjustment can change a ranking.

    z * (1 + A c) + B c is linear in c, so its mean over preferences is its value at the mean
    preference: the batch's average is an unbiased estimate, the population's is exact.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.dim, config.dim, bias=False)
        self.shift = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, confounder: Tensor, latent: Tensor) -> Tensor:
        """Return float32[B, D] from confounder [D] and latent [B, D]."""
        scaled: Tensor = latent * (1.0 + self.gate(confounder)) + self.shift(confounder)
        return scaled


class VariationalNetwork(Network):
    """The paper's network: variational encoders, cross-modal decoders, confounder fusion.

    Attributes:
        video: encoder of videos.
        music: encoder of tracks.
        confounder: [G, D], the embedding E of each genre group.
        population: float32[G], the preference at which the fusion is evaluated when serving.
    """

    video: VariationalEncoder
    music: VariationalEncoder
    population: Tensor

    def __init__(
        self,
        video_columns: int,
        music_columns: int,
        n_groups: int,
        config: ModelConfig,
        parts: PaperVariant,
    ) -> None:
        super().__init__()
        self.video = VariationalEncoder(video_columns, config, fixed_noise=parts.fixed_noise)
        self.music = VariationalEncoder(music_columns, config, fixed_noise=parts.fixed_noise)
        self.music_from_video = Decoder(music_columns, config)
        self.video_from_music = Decoder(video_columns, config)
        self.adjusts = config.adjustment != "none"
        self.confounder = nn.Parameter(torch.randn(n_groups, config.dim) / config.dim**0.5)
        self.fusion = parts.fusion(config)
        self.register_buffer("population", torch.full((n_groups,), 1.0 / n_groups))

    @torch.no_grad()
    def set_population(self, preference: Tensor) -> None:
        """Serve at the population's genre preference [G]."""
        self.population.copy_(preference)

    def fuse(self, latent: Tensor, preference: Tensor) -> Tensor:
        """Return [B, D]: the tracks' latents fused with c = sum_g preference_g E_g.

        Args:
            latent: [B, D].
            preference: [G], the batch's mean while training, the population's when serving.
        """
        if not self.adjusts:
            return latent
        fused: Tensor = self.fusion(preference @ self.confounder, latent)
        return fused

    def embed_video(self, rows: Tensor) -> Tensor:
        """Return float32[B, D]: the means."""
        mean: Tensor = self.video(rows)[0]
        return mean

    def embed_music(self, rows: Tensor, genre_group: Tensor, adjusted: bool = True) -> Tensor:
        """Return float32[B, D]: fused means; unadjusted, fused with a confounder of zero.

        The genre group is multiplied by zero, so that exported graphs of all variants have the
        same two inputs.
        """
        preference = self.population if adjusted else torch.zeros_like(self.population)
        mean: Tensor = self.music(rows)[0]
        return self.fuse(mean, preference) + 0.0 * genre_group[:, None]


class VariationalMatch(Objective):
    """Objective of teacher and student: matching, reconstruction, prior and distillation."""

    def __init__(
        self,
        network: VariationalNetwork,
        teacher: VariationalNetwork | None,
        data: TrainingData,
        config: ModelConfig,
        stage: Stage,
        parts: PaperVariant,
    ) -> None:
        super().__init__()
        self.network: VariationalNetwork = network
        self.data = data
        self.config = config
        self.stage = stage
        self.parts = parts
        self.weights = {
            "match": 1.0,
            "reconstruction": 1.0,
            "kl": config.kl_weight,
            "distil": config.distill_weight,
        }
        self.teacher: TeacherCache | None = None
        if teacher is not None and config.uses_teacher:
            frozen = teacher.eval()
            self.teacher = TeacherCache(
                lambda rows: torch.cat(frozen.video(rows), dim=1),
                lambda rows: torch.cat(frozen.music(rows), dim=1),
                data,
                device_of(network),
            )
        if stage is Stage.TEACHER or config.adjustment == "none":
            for unused in (network.confounder, *network.fusion.parameters()):
                unused.requires_grad_(False)

    def forward(self, rows: Int64Array) -> dict[str, Tensor]:
        """Return {"match", "reconstruction", "kl", "distil"} for rows int64[B]."""
        video, music, preference, track = self._pairs(rows)
        network = self.network
        to_video, to_music = network.video.standardise(video), network.music.standardise(music)
        video_mean, video_logvar = network.video.encode(to_video)
        music_mean, music_logvar = network.music.encode(to_music)
        video_latent = video_mean + torch.randn_like(video_mean) * torch.exp(video_logvar / 2)
        music_latent = music_mean + torch.randn_like(music_mean) * torch.exp(music_logvar / 2)
        fused = music_latent if preference is None else network.fuse(music_latent, preference)
        found = {
            "match": self._match(fused @ video_latent.T, track),
            "reconstruction": F.mse_loss(network.music_from_video(video_latent), to_music)
            + F.mse_loss(network.video_from_music(music_latent), to_video),
            "kl": standard_normal_kl(video_mean, video_logvar)
            + standard_normal_kl(music_mean, music_logvar),
        }
        if self.teacher is not None:
            train = self.data.train
            target_video = self.teacher.video(train.video[rows]).chunk(2, dim=1)
            target_music = self.teacher.music(train.music[rows]).chunk(2, dim=1)
            of_video = self.parts.distillation(video_mean, video_logvar, *target_video)
            of_music = self.parts.distillation(music_mean, music_logvar, *target_music)
            found["distil"] = of_video + of_music
        return found

    def _pairs(self, rows: Int64Array) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Return (video, music, mean preference [G], track int64[B]) of the stage's rows."""
        device = device_of(self.network)
        if self.stage is Stage.TEACHER:
            video = take(self.data.segment_video, rows, device)
            return video, take(self.data.segment_music, rows, device), None, None
        train = self.data.train
        video = take(self.data.video, train.video[rows], device)
        music = take(self.data.music, train.music[rows], device)
        preference = torch.from_numpy(train.preference[rows]).to(device).mean(dim=0)
        return video, music, preference, torch.from_numpy(train.music[rows]).to(device)

    def _match(self, scores: Tensor, track: Tensor | None) -> Tensor:
        """Return the matching loss of both directions of scores [B, B]."""
        same = None
        if self.config.masking and track is not None:
            same = track[:, None] == track[None, :]
        return self.parts.matching(scores, same) + self.parts.matching(scores.T, same)


@dataclass(frozen=True)
class PaperVariant(Variant[VariationalNetwork]):
    """The paper's model; the attributes are the parts in which `paper` and `released` differ.

    Attributes:
        matching: from (scores [B, B], same bool[B, B] or None) to a loss (faults 1 and 5).
        distillation: from (mean, logvar, to_mean, to_logvar), each [B, D], to a loss (fault 2).
        fusion: module that fuses confounder and latent (fault 3).
        fixed_noise: whether the log variance has length one (fault 4).
    """

    matching: Callable[[Tensor, Tensor | None], Tensor]
    distillation: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    fusion: type[LinearFusion] | type[InteractingFusion]
    fixed_noise: bool

    def build_network(
        self, video_columns: int, music_columns: int, n_groups: int, config: ModelConfig
    ) -> VariationalNetwork:
        """Return the paper's network, untrained."""
        return VariationalNetwork(video_columns, music_columns, n_groups, config, self)

    def prepare_teacher(
        self, network: VariationalNetwork, data: TrainingData, config: ModelConfig
    ) -> Objective:
        """Return the objective over pairs of PGC segments."""
        return VariationalMatch(network, None, data, config, Stage.TEACHER, self)

    def prepare_student(
        self,
        network: VariationalNetwork,
        teacher: VariationalNetwork | None,
        data: TrainingData,
        config: ModelConfig,
    ) -> Objective:
        """Return the objective over picks."""
        return VariationalMatch(network, teacher, data, config, Stage.STUDENT, self)


PAPER = PaperVariant(hard_matching, gaussian_kl, InteractingFusion, fixed_noise=False)
RELEASED = PaperVariant(released_matching, released_distillation, LinearFusion, fixed_noise=True)
