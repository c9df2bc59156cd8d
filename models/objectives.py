"""What one training step computes, for each variant and stage.

An objective is a module whose forward takes rows of the training pairs and returns named
losses; `weights` says how they add up. B rows of a step, M tracks, D dimensions, G groups.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models import losses
from models.arrays import Float32Array, Int64Array
from models.choice_set import history_table
from models.config import ModelConfig
from models.data import Picks, TrainingData
from models.distributed import everywhere
from models.networks import DebcmNetwork, VariationalNetwork, device_of
from models.teacher_cache import Taught, take

IPS_CLIP = 10.0
"""Largest inverse propensity weight, in units of the mean weight."""


def popularity_of(picks: Picks, n_music: int) -> Float32Array:
    """Return float32[M]: smoothed share of each track among the picks, (n + 1) / (P + M)."""
    count = np.bincount(picks.music, minlength=n_music) + 1.0
    share: Float32Array = (count / count.sum()).astype(np.float32)
    return share


def inverse_propensity(picks: Picks, n_music: int) -> Float32Array:
    """Return float32[P]: inverse popularity of each pick's track, clipped, mean one."""
    weight = 1.0 / popularity_of(picks, n_music)[picks.music]
    clipped = np.minimum(weight / weight.mean(), IPS_CLIP)
    result: Float32Array = (clipped / clipped.mean()).astype(np.float32)
    return result


class SegmentContrast(nn.Module):
    """Teacher of `debcm`: a segment's pictures against the sounds of the step's segments."""

    def __init__(self, network: DebcmNetwork, data: TrainingData, config: ModelConfig) -> None:
        super().__init__()
        self.network = network
        self.data = data
        self.weights = {"match": 1.0}
        for unused in network.explanations():
            unused.requires_grad_(False)

    def forward(self, rows: Int64Array) -> dict[str, Tensor]:
        """Return {"match"}: InfoNCE of both directions over segments `rows` int64[B]."""
        device = device_of(self.network)
        video = self.network.video(take(self.data.segment_video, rows, device))
        music = self.network.music(take(self.data.segment_music, rows, device))
        all_video, start = everywhere(video)
        all_music, _ = everywhere(music)
        own = torch.arange(start, start + len(rows), device=device)
        scale = self.network.scale
        to_music = losses.contrastive_loss(scale * video @ all_music.T, own)
        to_video = losses.contrastive_loss(scale * music @ all_video.T, own)
        return {"match": 0.5 * (to_music + to_video)}


class PickChoice(nn.Module):
    """Student of `debcm`: distilled scores, and picks explained by match and confounders.

    logit(v, m, z) = e s(v, m) + b_group(m)(z) + lean_group(m) + gamma log popularity(m), in a
    softmax over what the uploader knows. Serving keeps s, and its average over z.
    """

    def __init__(
        self,
        network: DebcmNetwork,
        teacher: DebcmNetwork | None,
        data: TrainingData,
        config: ModelConfig,
    ) -> None:
        super().__init__()
        self.network = network
        self.data = data
        self.config = config
        self.device = device_of(network)
        self.group = torch.from_numpy(data.genre_group).to(self.device)
        popularity = popularity_of(data.train, len(data.music))
        self.log_popularity = torch.from_numpy(np.log(popularity)).to(self.device)
        self.propensity = inverse_propensity(data.train, len(data.music)) if config.ips else None
        self.row, self.table = history_table(data.train, config.history)
        picks = config.picks_weight > 0
        network.confounder.requires_grad_(picks and config.adjustment != "none")
        network.lean.requires_grad_(picks and config.adjustment != "none")
        network.popularity.requires_grad_(picks and config.popularity)
        network.expertise.requires_grad_(picks)
        self.weights = {"picks": config.picks_weight, "distil": config.distill_weight}
        self.taught: Taught | None = None
        if teacher is not None and config.taught:
            guide = teacher.eval()
            self.taught = Taught(
                lambda rows: guide.scale * guide.video(rows), guide.music, data, self.device
            )

    def _tracks(self, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Draw the tracks of a step.

        Returns:
            (tracks int64[C], ascending: the picks, a uniform sample of the catalogue and, where
            it is what picks are contrasted with, the whole history of their uploaders;
            sample int64[S]: places in `tracks`, drawn uniformly).
        """
        drawn = torch.randperm(len(self.data.music))[: self.config.sample].numpy()
        parts = [drawn, self.data.train.music[rows]]
        if self.config.contrast == "history":
            known = self.table[np.unique(self.row[rows])]
            parts.append(known[known >= 0])
        tracks = np.unique(np.concatenate(parts))
        return tracks, np.searchsorted(tracks, drawn)

    def forward(self, rows: Int64Array) -> dict[str, Tensor]:
        """Return {"picks", "distil"}, those that are switched on, for picks `rows` int64[B]."""
        step = self.embed(rows)
        found: dict[str, Tensor] = {}
        if self.taught is not None:
            drawn = step.tracks[step.drawn]
            guide = self.taught.video(self.data.train.video[rows]), self.taught.music(drawn)
            found["distil"] = self._distillation(step.video, step.music[step.drawn], *guide)
        if self.config.picks_weight > 0:
            found["picks"] = losses.choice_loss(*self.choice(step), self._row_weights(rows))
        return found

    def embed(self, rows: Int64Array) -> "Step":
        """Embed picks `rows` int64[B] and what they are contrasted with."""
        train = self.data.train
        tracks, drawn = self._tracks(rows)
        video = self.network.video(take(self.data.video, train.video[rows], self.device))
        music = self.network.music(take(self.data.music, tracks, self.device))
        return Step(rows, tracks, drawn, video, music)

    def choice(self, step: "Step") -> tuple[Tensor, Tensor]:
        """Return (logits [B, K] of what was known, int64[B] the picks' columns)."""
        picked = np.searchsorted(step.tracks, self.data.train.music[step.rows])
        own = torch.from_numpy(picked).to(self.device)
        tracks = torch.from_numpy(step.tracks).to(self.device)
        chooser, offer = self._factors(step.rows, step.video, step.music, tracks)
        if self.config.contrast == "batch":
            return self._against_batch(chooser, offer[own], tracks[own])
        sample = torch.from_numpy(step.drawn).to(self.device)
        logits = self._against_known(step.rows, chooser, offer, own, tracks, sample)
        return logits, torch.zeros_like(own)

    def _distillation(
        self, video: Tensor, music: Tensor, taught: Tensor, columns: Tensor
    ) -> Tensor:
        """Return what parts student and teacher: of scores, or of unit-variance latents."""
        if self.config.distill == "scores":
            return losses.score_distillation(
                self.network.scale * video @ music.T, taught @ columns.T
            )
        same = torch.zeros((), device=self.device)
        towards = F.normalize(taught, dim=1)
        of_video = losses.gaussian_kl(video, same.expand_as(video), towards, same)
        return of_video + losses.gaussian_kl(music, same.expand_as(music), columns, same)

    def _row_weights(self, rows: Int64Array) -> Tensor | None:
        """Return [B] self-normalised inverse propensities, or None for equal weights."""
        if self.propensity is None:
            return None
        raw = torch.from_numpy(self.propensity[rows]).to(self.device)
        return raw / raw.sum()

    def _factors(
        self, rows: Int64Array, video: Tensor, music: Tensor, tracks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what explains picks as two factors, whose products are the logits.

        Args:
            rows: int64[B], rows of the training picks.
            video: [B, D], latents.
            music: [C, D], latents of `tracks`.
            tracks: int64[C].

        Returns:
            (chooser [B, K], offer [C, K]): the match, and the confounders switched on.
        """
        chooser, offer = [self.network.expertise * self.network.scale * video], [music]
        if self.config.adjustment != "none":
            preference = torch.from_numpy(self.data.train.preference[rows]).to(self.device)
            if self.config.adjustment == "batch":
                preference = preference.mean(dim=0, keepdim=True).expand_as(preference)
            chooser.append(self.network.confounding(preference) + self.network.lean)
            offer.append(F.one_hot(self.group[tracks], self.data.n_groups).to(music.dtype))
        if self.config.popularity:
            chooser.append(self.network.popularity.expand(len(rows), 1))
            offer.append(self.log_popularity[tracks][:, None])
        return torch.cat(chooser, dim=1), torch.cat(offer, dim=1)

    def _against_batch(
        self, chooser: Tensor, offer: Tensor, picked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Contrast with the step's own picks, which are drawn by popularity (logQ)."""
        logits = chooser @ offer.T
        if self.config.popularity:
            logits = logits - self.log_popularity[picked]
        if self.config.masking:
            same = picked[:, None] == picked[None, :]
            same.fill_diagonal_(False)
            logits = logits.masked_fill(same, -torch.inf)
        return logits, torch.arange(len(picked), device=self.device)

    def _against_known(
        self,
        rows: Int64Array,
        chooser: Tensor,
        offer: Tensor,
        own: Tensor,
        tracks: Tensor,
        sample: Tensor,
    ) -> Tensor:
        """Return [B, 1 + H + S] logits: the pick, its uploader's history, a uniform sample.

        The sample stands for the `known` tracks that an uploader is taken to know besides,
        or for the whole catalogue. Tracks of the history are struck from it, for they have a
        column of their own, and with `masking` so is the pick.
        """
        own_logit = (chooser * offer[own]).sum(dim=1, keepdim=True)
        in_sample = torch.full((len(tracks) + 1,), len(sample), device=self.device)
        in_sample[sample] = torch.arange(len(sample), device=self.device)
        struck = torch.zeros(len(rows), len(sample) + 1, dtype=torch.bool, device=self.device)
        if self.config.masking:
            struck.scatter_(1, in_sample[own][:, None], True)
        columns, sampled_from = [own_logit], len(self.data.music)
        if self.config.contrast == "history":
            place = self._history(rows, own, tracks)
            struck.scatter_(1, in_sample[place], True)
            columns.append(self._at(chooser, offer, place))
            sampled_from = min(self.config.known, sampled_from)
        rest = chooser @ offer[sample].T + math.log(sampled_from / len(sample))
        columns.append(rest.masked_fill(struck[:, :-1], -torch.inf))
        return torch.cat(columns, dim=1)

    def _history(self, rows: Int64Array, own: Tensor, tracks: Tensor) -> Tensor:
        """Return int64[B, H], places in `tracks` of the uploaders' history; -1 for none."""
        place_of = torch.full((len(self.group) + 1,), -1, device=self.device)
        place_of[tracks] = torch.arange(len(tracks), device=self.device)
        place = place_of[torch.from_numpy(self.table[self.row[rows]]).to(self.device)]
        if self.config.masking:
            place = place.masked_fill(place == own[:, None], -1)
        return place

    @staticmethod
    def _at(chooser: Tensor, offer: Tensor, place: Tensor) -> Tensor:
        """Return [B, H]: logits of the offers named by `place`, -inf where it is -1.

        Of the padded table only the places that hold a track are multiplied.
        """
        present = place >= 0
        pairs = chooser.index_select(0, present.nonzero()[:, 0]) * offer.index_select(
            0, place[present]
        )
        none = chooser.new_full(place.shape, -torch.inf)
        return none.masked_scatter(present, pairs.sum(dim=1))


@dataclass(frozen=True)
class Step:
    """Picks, and what they are contrasted with, embedded.

    Attributes:
        rows: int64[B], rows of the picks.
        tracks: int64[C], ascending.
        drawn: int64[S], places in `tracks` of a uniform sample.
        video: [B, D].
        music: [C, D], of `tracks`.
    """

    rows: Int64Array
    tracks: Int64Array
    drawn: Int64Array
    video: Tensor
    music: Tensor


class VariationalMatch(nn.Module):
    """Teacher and student of `paper` and `released`, over pairs of one step."""

    def __init__(
        self,
        network: VariationalNetwork,
        teacher: VariationalNetwork | None,
        data: TrainingData,
        config: ModelConfig,
        stage: str,
    ) -> None:
        super().__init__()
        self.network = network
        self.data = data
        self.config = config
        self.stage = stage
        self.released = config.variant == "released"
        self.weights = {
            "match": 1.0,
            "reconstruction": 1.0,
            "kl": config.kl_weight,
            "distil": config.distill_weight,
        }
        self.taught: Taught | None = None
        if teacher is not None and config.taught:
            guide = teacher.eval()
            self.taught = Taught(
                lambda rows: torch.cat(guide.video(rows), dim=1),
                lambda rows: torch.cat(guide.music(rows), dim=1),
                data,
                device_of(network),
            )
        if stage == "teacher" or config.adjustment == "none":
            for unused in (network.confounder, *network.fusion.parameters()):
                unused.requires_grad_(False)

    def _pairs(self, rows: Int64Array) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Return (video, music, preference [G], track int64[B]) of the rows of this stage."""
        device = device_of(self.network)
        if self.stage == "teacher":
            video = take(self.data.segment_video, rows, device)
            return video, take(self.data.segment_music, rows, device), None, None
        train = self.data.train
        video = take(self.data.video, train.video[rows], device)
        music = take(self.data.music, train.music[rows], device)
        preference = torch.from_numpy(train.preference[rows]).to(device).mean(dim=0)
        return video, music, preference, torch.from_numpy(train.music[rows]).to(device)

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
            "kl": losses.standard_normal_kl(video_mean, video_logvar)
            + losses.standard_normal_kl(music_mean, music_logvar),
        }
        if self.taught is not None:
            train = self.data.train
            of_video = self.taught.video(train.video[rows]).chunk(2, dim=1)
            of_music = self.taught.music(train.music[rows]).chunk(2, dim=1)
            kl = losses.released_distillation if self.released else losses.gaussian_kl
            found["distil"] = kl(video_mean, video_logvar, *of_video)
            found["distil"] = found["distil"] + kl(music_mean, music_logvar, *of_music)
        return found

    def _match(self, scores: Tensor, track: Tensor | None) -> Tensor:
        """Return the matching loss of both directions of scores [B, B]."""
        if self.released:
            return losses.released_matching(scores) + losses.released_matching(scores.T)
        same = None
        if self.config.masking and track is not None:
            same = track[:, None] == track[None, :]
        return losses.hard_matching(scores, same) + losses.hard_matching(scores.T, same)


Objective = SegmentContrast | PickChoice | VariationalMatch
