"""Networks of the default variant, from raw features to latents.

Shapes: B rows, D latent dimensions, G genre groups.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.config import ModelConfig
from models.variant import Encoder, Network

# Preferences are raised to this before their logarithm is taken, so that logarithms are finite.
MIN_PREFERENCE = 1e-4


class Dropout(nn.Module):
    """Dropout that draws one random byte per element; nn.Dropout draws a double.

    The probability is rounded to a multiple of 1/256; kept values are scaled to the same mean.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropped = round(256 * probability)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements set to zero while training, else x itself."""
        if not (self.training and self.dropped):
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        random_bytes = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        kept = (random_bytes >= self.dropped).to(x.dtype).mul_(256 / (256 - self.dropped))
        return x * kept


class Tower(Encoder):
    """Encoder of one modality: raw features to a unit vector.

    The sum of a linear map, which needs few pairs to learn, and a network with one hidden layer.
    """

    def __init__(self, columns: int, config: ModelConfig) -> None:
        super().__init__(columns)
        self.dropout = Dropout(config.dropout)
        self.linear = nn.Linear(columns, config.dim)
        self.widen = nn.Linear(columns, config.hidden)
        self.bend = nn.Linear(config.hidden, config.dim)

    def forward(self, rows: Tensor) -> Tensor:
        """Return float32[B, D], rows of length one."""
        x = self.dropout(self.standardise(rows))
        mixed = self.linear(x) + self.bend(self.dropout(F.gelu(self.widen(x))))
        return F.normalize(mixed, dim=1)


class DebcmNetwork(Network):
    """Two towers, a learned temperature, and the parameters that explain picks besides the match.

    Attributes:
        video: tower of videos.
        music: tower of tracks.
        log_scale: scalar, logarithm of the inverse temperature.
        confounder: [G, G]; entry (a, g) is how many nats a preference for genre group a, relative
            to the population's, adds to the choice of a track of group g.
        lean: [G], nats that the whole population adds to tracks of each group. Never served: like
            popularity, it says which tracks uploaders meet, not which ones match.
        popularity: scalar, exponent of a track's popularity.
        expertise: scalar, factor of the match in an uploader's choice; 1 for an expert.
        centre: float32[G], mean log preference of the population.
        adjustment: float32[G], backdoor term added to the tracks of each group; zero when the
            score is averaged (`fit_adjustment`).
        naive: float32[G], what a model without adjustment would add to the tracks of each group.
    """

    video: Tower
    music: Tower
    centre: Tensor
    adjustment: Tensor
    naive: Tensor

    def __init__(
        self, video_columns: int, music_columns: int, n_groups: int, config: ModelConfig
    ) -> None:
        super().__init__()
        self.video = Tower(video_columns, config)
        self.music = Tower(music_columns, config)
        self.log_scale = nn.Parameter(torch.tensor(1.0 / config.temperature).log())
        self.confounder = nn.Parameter(torch.zeros(n_groups, n_groups))
        self.lean = nn.Parameter(torch.zeros(n_groups))
        self.popularity = nn.Parameter(torch.tensor(0.0))
        self.expertise = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("centre", torch.zeros(n_groups))
        self.register_buffer("adjustment", torch.zeros(n_groups))
        self.register_buffer("naive", torch.zeros(n_groups))

    @property
    def scale(self) -> Tensor:
        """Scalar: nats of a cosine of one (the inverse temperature), kept within 1..100."""
        return self.log_scale.clamp(0.0, 4.6).exp()

    def relative_preference(self, preference: Tensor) -> Tensor:
        """Return [B, G]: log preference minus the population's mean log preference."""
        return preference.clamp(min=MIN_PREFERENCE).log() - self.centre

    def confounding(self, preference: Tensor) -> Tensor:
        """Return [B, G]: nats that an uploader's preference adds to tracks of each group."""
        return self.relative_preference(preference) @ self.confounder

    def explaining_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that explain picks besides the match."""
        return [self.confounder, self.lean, self.popularity, self.expertise]

    @torch.no_grad()
    def centre_on(self, preference: Tensor) -> None:
        """Make preferences relative to those of a population [U, G]."""
        self.centre.copy_(preference.clamp(min=MIN_PREFERENCE).log().mean(dim=0))

    @torch.no_grad()
    def start_from(self, teacher: DebcmNetwork) -> None:
        """Copy the teacher's towers and temperature."""
        self.video.load_state_dict(teacher.video.state_dict())
        self.music.load_state_dict(teacher.music.state_dict())
        self.log_scale.copy_(teacher.log_scale)

    @torch.no_grad()
    def fit_adjustment(self, preference: Tensor, group_share: Tensor) -> None:
        """Set `adjustment` to average the probability of a pick over the population.

        P(Y | V, do(M)) = E_z P(Y | V, M, z): for a track of group g,
        log E_z [exp b_g(z) / sum_h share_h exp b_h(z)]. The average of the score needs no
        term: b is relative to the population's mean, so the mean of b is zero.

        Args:
            preference: [U, G], one row per uploader of the population.
            group_share: [G], the share of each group in the catalogue.
        """
        terms = self.confounding(preference)
        normaliser = torch.logsumexp(
            terms + group_share.clamp(min=1e-12).log(), dim=1, keepdim=True
        )
        count = torch.tensor(float(len(preference))).log()
        self.adjustment.copy_(torch.logsumexp(terms - normaliser, dim=0) - count)

    def embed_video(self, rows: Tensor) -> Tensor:
        """Return float32[B, D + 1]: the scaled latent, and a one for the track's genre term."""
        latent = self.scale * self.video(rows)
        return torch.cat([latent, torch.ones_like(latent[:, :1])], dim=1)

    def embed_music(self, rows: Tensor, genre_group: Tensor, adjusted: bool = True) -> Tensor:
        """Return float32[B, D + 1]: the latent, and the genre term of the track's group."""
        term = self.adjustment if adjusted else self.naive
        return torch.cat([self.music(rows), term[genre_group][:, None]], dim=1)
