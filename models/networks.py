"""The neural networks of the three variants, from raw features to latents.

Shapes: B rows, D latent dimensions, G genre groups.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.config import ModelConfig

SMALLEST_PREFERENCE = 1e-4
"""Preference below which a genre group counts as equally unloved; keeps logs finite."""

FARTHEST = 10.0
"""Standard deviations from the mean at which a standardised column ends."""

_TAIL = 0.05
_REACH = 3.0
_QUANTILE_ROWS = 4096


def plausible(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return (low, high), each [columns]: between which a column's values are believed.

    Three times the width between the 5 % and the 95 % quantile, beyond either: 11 standard
    deviations of a normal column, a little more than a standardised one keeps, and all but one in
    a thousand of a log-normal one. A column that has no width there, for instance of zeros with a
    few ones, is believed whole.

    Args:
        rows: float32[n, columns]; NaN and infinity do not count.
    """
    rows = rows[:: max(1, -(-len(rows) // _QUANTILE_ROWS))].double()
    columns = torch.where(torch.isfinite(rows), rows, torch.nan).T.contiguous()
    low = torch.nanquantile(columns, _TAIL, dim=1, interpolation="lower")
    high = torch.nanquantile(columns, 1.0 - _TAIL, dim=1, interpolation="higher")
    width = high - low
    believed = (width > 0) & torch.isfinite(width)
    return (
        torch.where(believed, low - _REACH * width, -torch.inf),
        torch.where(believed, high + _REACH * width, torch.inf),
    )


class Standardise(nn.Module):
    """Centre and scale raw columns by the training rows' mean and standard deviation.

    A few broken rows set neither: values that are not `plausible` do not count. NaN becomes the
    column's mean; a constant or empty column becomes zero; what lies far off ends at ten standard
    deviations.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("scale", torch.ones(columns))

    @torch.no_grad()
    def fit(self, rows: Tensor) -> None:
        """Take mean and scale from float32[n, columns]."""
        low, high = plausible(rows)
        seen = torch.isfinite(rows) & (rows >= low) & (rows <= high)
        count = seen.sum(dim=0).clamp(min=1)
        clean = torch.where(seen, rows, 0.0).double()
        mean = clean.sum(dim=0) / count
        spread = torch.where(seen, clean - mean, 0.0).square().sum(dim=0) / count
        deviation = spread.sqrt()
        varies = deviation > 1e-6 * (1.0 + mean.abs())
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, 1.0 / deviation.clamp(min=1e-12), 0.0))

    def forward(self, rows: Tensor) -> Tensor:
        """Return float32[B, columns], mean 0 and standard deviation 1 on the training rows."""
        standard = torch.addcmul(-self.mean * self.scale, rows, self.scale)
        clean = standard.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        return clean.clamp_(-FARTHEST, FARTHEST)


class Dropout(nn.Module):
    """Dropout that draws one random byte an element where nn.Dropout draws a double.

    The share dropped is a whole number of 256ths; what is kept is scaled to the same mean.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(256 * share)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped while training, x itself when not."""
        if not (self.training and self.dropped):
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        each = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        kept = (each >= self.dropped).to(x.dtype).mul_(256 / (256 - self.dropped))
        return x * kept


class Tower(nn.Module):
    """One modality of the `debcm` variant: raw features to a unit vector.

    A linear map plus a two-layer one: the first learns from few pairs, the second bends.
    """

    def __init__(self, columns: int, config: ModelConfig) -> None:
        super().__init__()
        self.standardise = Standardise(columns)
        self.dropout = Dropout(config.dropout)
        self.linear = nn.Linear(columns, config.dim)
        self.widen = nn.Linear(columns, config.hidden)
        self.bend = nn.Linear(config.hidden, config.dim)

    def forward(self, rows: Tensor) -> Tensor:
        """Return float32[B, D], rows of length one."""
        x = self.dropout(self.standardise(rows))
        mixed = self.linear(x) + self.bend(self.dropout(F.gelu(self.widen(x))))
        return F.normalize(mixed, dim=1)


class DebcmNetwork(nn.Module):
    """Two towers, a learned temperature, and what explains picks besides the match.

    Attributes:
        confounder: [G, G]; entry (a, g) is how much liking genre group a, relative to the
            population, adds to the choice of a track in group g, in nats.
        lean: [G]; nats that the whole population adds to the tracks of each group. Like
            popularity it tells what uploaders meet, not what matches: it is never served.
        popularity: scalar, exponent of a track's popularity.
        expertise: scalar, the share of the match that uploaders act on; experts have 1.
        centre: float32[G], mean log preference of the population.
        adjustment: float32[G], the backdoor term of each group; zero
            where the score is averaged (`fit_adjustment`).
        naive: float32[G], what an unadjusted model would add to each group's tracks.
    """

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
        """Scalar: nats of a cosine of one, kept within 1..100."""
        return self.log_scale.clamp(0.0, 4.6).exp()

    def relative_preference(self, preference: Tensor) -> Tensor:
        """Return [B, G]: log preference less the population's mean log preference."""
        return preference.clamp(min=SMALLEST_PREFERENCE).log() - self.centre

    def confounding(self, preference: Tensor) -> Tensor:
        """Return [B, G]: nats that an uploader's preference adds to tracks of each group."""
        return self.relative_preference(preference) @ self.confounder

    def explanations(self) -> list[nn.Parameter]:
        """Return the few parameters that explain picks besides the towers."""
        return [self.confounder, self.lean, self.popularity, self.expertise]

    @torch.no_grad()
    def centre_on(self, preference: Tensor) -> None:
        """Measure preferences from here on against those of a population, [U, G]."""
        self.centre.copy_(preference.clamp(min=SMALLEST_PREFERENCE).log().mean(dim=0))

    @torch.no_grad()
    def start_from(self, teacher: "DebcmNetwork") -> None:
        """Take over the teacher's towers and temperature: the student starts as its equal."""
        self.video.load_state_dict(teacher.video.state_dict())
        self.music.load_state_dict(teacher.music.state_dict())
        self.log_scale.copy_(teacher.log_scale)

    @torch.no_grad()
    def fit_adjustment(self, preference: Tensor, share: Tensor) -> None:
        """Average the probability of a pick over the population of uploaders.

        P(Y | V, do(M)) = E_z P(Y | V, M, z): for a track of group g,
        log E_z [exp b_g(z) / sum_h share_h exp b_h(z)]. The average of the score needs no
        term: b is measured from the population's mean, so its own mean is zero.

        Args:
            preference: [U, G], one row per uploader of the population.
            share: [G], the share of each group in the catalogue.
        """
        chosen = self.confounding(preference)
        normaliser = torch.logsumexp(chosen + share.clamp(min=1e-12).log(), dim=1, keepdim=True)
        count = torch.tensor(float(len(preference))).log()
        self.adjustment.copy_(torch.logsumexp(chosen - normaliser, dim=0) - count)

    def embed_video(self, rows: Tensor) -> Tensor:
        """Return float32[B, D + 1]: scaled latent and a one for the music's genre term."""
        latent = self.scale * self.video(rows)
        return torch.cat([latent, torch.ones_like(latent[:, :1])], dim=1)

    def embed_music(self, rows: Tensor, genre_group: Tensor, adjusted: bool = True) -> Tensor:
        """Return float32[B, D + 1]: latent and the genre term of the row's group."""
        term = self.adjustment if adjusted else self.naive
        return torch.cat([self.music(rows), term[genre_group][:, None]], dim=1)


class VariationalEncoder(nn.Module):
    """One modality of `paper` and `released`: BatchNorm, dropout, heads for mean and logvar.

    `released` scales logvar to length one, which fixes the noise near unit variance in every
    dimension against a signal of length one (fault 4); `paper` learns it, bounded.
    """

    def __init__(self, columns: int, config: ModelConfig) -> None:
        super().__init__()
        self.standardise = Standardise(columns)
        self.norm = nn.BatchNorm1d(columns)
        self.dropout = Dropout(config.dropout)
        self.heads = nn.Linear(columns, 2 * config.dim)
        self.fixed_noise = config.variant == "released"
        if not self.fixed_noise:
            nn.init.zeros_(self.heads.weight[config.dim :])
            nn.init.constant_(self.heads.bias[config.dim :], -5.0)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mean, logvar), each float32[B, D]; the mean has length one."""
        return self.encode(self.standardise(rows))

    def encode(self, standard: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same from rows that are standardised already."""
        mean, logvar = self.heads(self.dropout(self.norm(standard))).chunk(2, dim=1)
        if self.fixed_noise:
            return F.normalize(mean, dim=1), F.normalize(logvar, dim=1)
        return F.normalize(mean, dim=1), logvar.clamp(-10.0, 2.0)


class Decoder(nn.Module):
    """Standardised features of one modality from the other's latent."""

    def __init__(self, columns: int, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(config.dim)
        self.dropout = Dropout(config.dropout)
        self.linear = nn.Linear(config.dim, columns)

    def forward(self, latent: Tensor) -> Tensor:
        """Return float32[B, columns], 0 or more."""
        return F.relu(self.linear(self.dropout(self.norm(latent))))


class LinearFusion(nn.Module):
    """The released fusion Linear([c ; z]): c shifts every track alike (fault 3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * config.dim, config.dim)

    def forward(self, confounder: Tensor, latent: Tensor) -> Tensor:
        """Return float32[B, D] from confounder [D] and latent [B, D]."""
        fused: Tensor = self.linear(torch.cat([confounder.expand_as(latent), latent], dim=1))
        return fused


class InteractingFusion(nn.Module):
    """The mended fusion: c scales the music's latent, so that adjusting can change a ranking.

    z * (1 + A c) + B c is linear in c, hence its mean over preferences is its value at the
    mean preference: the batch average is an unbiased estimate, the population's is exact.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.dim, config.dim, bias=False)
        self.shift = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, confounder: Tensor, latent: Tensor) -> Tensor:
        """Return float32[B, D] from confounder [D] and latent [B, D]."""
        scaled: Tensor = latent * (1.0 + self.gate(confounder)) + self.shift(confounder)
        return scaled


class VariationalNetwork(nn.Module):
    """The paper's network: variational encoders, cross-modal decoders, confounder fusion.

    Attributes:
        confounder: [G, D], the embedding E of each genre group.
        population: float32[G], the preference at which serving evaluates the fusion.
    """

    population: Tensor

    def __init__(
        self, video_columns: int, music_columns: int, n_groups: int, config: ModelConfig
    ) -> None:
        super().__init__()
        self.video = VariationalEncoder(video_columns, config)
        self.music = VariationalEncoder(music_columns, config)
        self.music_from_video = Decoder(music_columns, config)
        self.video_from_music = Decoder(video_columns, config)
        self.adjusts = config.adjustment != "none"
        self.confounder = nn.Parameter(torch.randn(n_groups, config.dim) / config.dim**0.5)
        self.fusion: nn.Module = (
            LinearFusion(config) if config.variant == "released" else InteractingFusion(config)
        )
        self.register_buffer("population", torch.full((n_groups,), 1.0 / n_groups))

    def fuse(self, latent: Tensor, preference: Tensor) -> Tensor:
        """Return [B, D]: the music latents adjusted by c = sum_g preference_g E_g.

        Args:
            latent: [B, D].
            preference: [G], of the batch while training, of the population when serving.
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
        """Return float32[B, D]: fused means; unadjusted, the fusion of no confounder.

        The genre group enters with weight zero: an exported graph of any variant then has
        the same two inputs.
        """
        preference = self.population if adjusted else torch.zeros_like(self.population)
        mean: Tensor = self.music(rows)[0]
        return self.fuse(mean, preference) + 0.0 * genre_group[:, None]


Network = DebcmNetwork | VariationalNetwork


def device_of(network: Network) -> torch.device:
    """Return where a network's weights are."""
    return network.video.standardise.mean.device


def build_network(
    video_columns: int, music_columns: int, n_groups: int, config: ModelConfig
) -> Network:
    """Return the untrained network of the configured variant."""
    kind = DebcmNetwork if config.variant == "debcm" else VariationalNetwork
    return kind(video_columns, music_columns, n_groups, config)
