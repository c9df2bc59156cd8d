"""Objectives of the default variant: what one training step computes.

B rows of a step, M tracks of the catalogue, C tracks of a step, D dimensions, G genre groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models import losses
from models.arrays import Float32Array, Int64Array
from models.choice_set import uploader_tracks
from models.config import ModelConfig
from models.data import Picks, TrainingData
from models.distributed import gather_rows
from models.networks import DebcmNetwork
from models.teacher_cache import TeacherCache, take
from models.variant import Objective, device_of

# Largest inverse propensity weight, in units of the mean weight.
IPS_CLIP = 10.0


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


class SegmentContrast(Objective):
    """Objective of the teacher: contrasts a segment's picture with the sounds of the step."""

    def __init__(self, network: DebcmNetwork, data: TrainingData) -> None:
        super().__init__()
        self.network: DebcmNetwork = network
        self.data = data
        self.weights = {"match": 1.0}
        for unused in network.explaining_parameters():
            unused.requires_grad_(False)

    def forward(self, rows: Int64Array) -> dict[str, Tensor]:
        """Return {"match"}: InfoNCE of both directions over segments `rows` int64[B]."""
        device = device_of(self.network)
        video = self.network.video(take(self.data.segment_video, rows, device))
        music = self.network.music(take(self.data.segment_music, rows, device))
        all_video, start = gather_rows(video)
        all_music, _ = gather_rows(music)
        own = torch.arange(start, start + len(rows), device=device)
        scale = self.network.scale
        to_music = losses.choice_loss(scale * video @ all_music.T, own)
        to_video = losses.choice_loss(scale * music @ all_video.T, own)
        return {"match": 0.5 * (to_music + to_video)}


@dataclass(frozen=True)
class StepEmbeddings:
    """The embeddings of a step's picks and of the tracks that they are contrasted with.

    Attributes:
        rows: int64[B], rows of the picks.
        tracks: int64[C], ascending.
        sample: int64[S], positions in `tracks` of a uniform sample of the catalogue.
        video: [B, D].
        music: [C, D], of `tracks`.
    """

    rows: Int64Array
    tracks: Int64Array
    sample: Int64Array
    video: Tensor
    music: Tensor


class PickChoice(Objective):
    """Objective of the student: distilled scores, and picks explained by match and confounders.

    logit(v, m, z) = e s(v, m) + b_group(m)(z) + lean_group(m) + gamma log popularity(m), in a
    softmax over the uploader's choice set. Serving keeps s, averaged over z.
    """

    def __init__(
        self,
        network: DebcmNetwork,
        teacher: DebcmNetwork | None,
        data: TrainingData,
        config: ModelConfig,
    ) -> None:
        super().__init__()
        self.network: DebcmNetwork = network
        self.data = data
        self.config = config
        self.device = device_of(network)
        self.group = torch.from_numpy(data.genre_group).to(self.device)
        popularity = popularity_of(data.train, len(data.music))
        self.log_popularity = torch.from_numpy(np.log(popularity)).to(self.device)
        self.propensity = inverse_propensity(data.train, len(data.music)) if config.ips else None
        self.uploader_row, self.uploader_tracks = uploader_tracks(data.train, config.history)
        learns = config.picks_weight > 0
        network.confounder.requires_grad_(learns and config.adjustment != "none")
        network.lean.requires_grad_(learns and config.adjustment != "none")
        network.popularity.requires_grad_(learns and config.popularity)
        network.expertise.requires_grad_(learns)
        self.weights = {"picks": config.picks_weight, "distil": config.distill_weight}
        self.teacher: TeacherCache | None = None
        if teacher is not None and config.uses_teacher:
            frozen = teacher.eval()
            self.teacher = TeacherCache(
                lambda rows: frozen.scale * frozen.video(rows), frozen.music, data, self.device
            )

    def forward(self, rows: Int64Array) -> dict[str, Tensor]:
        """Return {"picks", "distil"}, those that are switched on, for picks `rows` int64[B]."""
        step = self.embed(rows)
        found: dict[str, Tensor] = {}
        if self.teacher is not None:
            target_video = self.teacher.video(self.data.train.video[rows])
            target_music = self.teacher.music(step.tracks[step.sample])
            found["distil"] = self._distillation(
                step.video, step.music[step.sample], target_video, target_music
            )
        if self.config.picks_weight > 0:
            found["picks"] = losses.choice_loss(*self.choice(step), self._row_weights(rows))
        return found

    def embed(self, rows: Int64Array) -> StepEmbeddings:
        """Embed picks `rows` int64[B] and the tracks that they are contrasted with."""
        train = self.data.train
        tracks, sample = self._draw_tracks(rows)
        video = self.network.video(take(self.data.video, train.video[rows], self.device))
        music = self.network.music(take(self.data.music, tracks, self.device))
        return StepEmbeddings(rows, tracks, sample, video, music)

    def choice(self, step: StepEmbeddings) -> tuple[Tensor, Tensor]:
        """Return (logits [B, K] of each pick's alternatives, int64[B] columns of the picks)."""
        picked = np.searchsorted(step.tracks, self.data.train.music[step.rows])
        own = torch.from_numpy(picked).to(self.device)
        tracks = torch.from_numpy(step.tracks).to(self.device)
        pick_factor, track_factor = self._logit_factors(step.rows, step.video, step.music, tracks)
        if self.config.contrast == "batch":
            return self._in_batch_logits(pick_factor, track_factor[own], tracks[own])
        sample = torch.from_numpy(step.sample).to(self.device)
        logits = self._choice_set_logits(step.rows, pick_factor, track_factor, own, tracks, sample)
        return logits, torch.zeros_like(own)

    def _draw_tracks(self, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Draw the tracks of a step.

        Returns:
            (tracks int64[C], ascending: the picked tracks, a uniform sample of the catalogue and,
            with `contrast = "history"`, all tracks of the uploaders; sample int64[S]: positions of
            the uniform sample in `tracks`).
        """
        drawn = torch.randperm(len(self.data.music))[: self.config.sample].numpy()
        parts = [drawn, self.data.train.music[rows]]
        if self.config.contrast == "history":
            theirs = self.uploader_tracks[np.unique(self.uploader_row[rows])]
            parts.append(theirs[theirs >= 0])
        tracks = np.unique(np.concatenate(parts))
        return tracks, np.searchsorted(tracks, drawn)

    def _distillation(
        self, video: Tensor, music: Tensor, target_video: Tensor, target_music: Tensor
    ) -> Tensor:
        """Return the divergence from the teacher: of scores, or of unit-variance latents."""
        if self.config.distill == "scores":
            return losses.score_distillation(
                self.network.scale * video @ music.T, target_video @ target_music.T
            )
        zero = torch.zeros((), device=self.device)
        direction = F.normalize(target_video, dim=1)
        of_video = losses.gaussian_kl(video, zero.expand_as(video), direction, zero)
        return of_video + losses.gaussian_kl(music, zero.expand_as(music), target_music, zero)

    def _row_weights(self, rows: Int64Array) -> Tensor | None:
        """Return [B] self-normalised inverse propensities, or None for equal weights."""
        if self.propensity is None:
            return None
        raw = torch.from_numpy(self.propensity[rows]).to(self.device)
        return raw / raw.sum()

    def _logit_factors(
        self, rows: Int64Array, video: Tensor, music: Tensor, tracks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two factors whose dot products are the logits of picks.

        Args:
            rows: int64[B], rows of the training picks.
            video: [B, D], latents.
            music: [C, D], latents of `tracks`.
            tracks: int64[C].

        Returns:
            (pick_factor [B, K], track_factor [C, K]); K is D plus the columns of the confounders
            that are switched on.
        """
        pick_factor = [self.network.expertise * self.network.scale * video]
        track_factor = [music]
        if self.config.adjustment != "none":
            preference = torch.from_numpy(self.data.train.preference[rows]).to(self.device)
            if self.config.adjustment == "batch":
                preference = preference.mean(dim=0, keepdim=True).expand_as(preference)
            pick_factor.append(self.network.confounding(preference) + self.network.lean)
            track_factor.append(F.one_hot(self.group[tracks], self.data.n_groups).to(music.dtype))
        if self.config.popularity:
            pick_factor.append(self.network.popularity.expand(len(rows), 1))
            track_factor.append(self.log_popularity[tracks][:, None])
        return torch.cat(pick_factor, dim=1), torch.cat(track_factor, dim=1)

    def _in_batch_logits(
        self, pick_factor: Tensor, picked_factor: Tensor, picked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (logits [B, B] of the step's picked tracks, int64[B] columns of the picks).

        Picked tracks come in proportion to their popularity, which is corrected for (logQ).
        """
        logits = pick_factor @ picked_factor.T
        if self.config.popularity:
            logits = logits - self.log_popularity[picked]
        if self.config.masking:
            same = picked[:, None] == picked[None, :]
            same.fill_diagonal_(False)
            logits = logits.masked_fill(same, -torch.inf)
        return logits, torch.arange(len(picked), device=self.device)

    def _choice_set_logits(
        self,
        rows: Int64Array,
        pick_factor: Tensor,
        track_factor: Tensor,
        own: Tensor,
        tracks: Tensor,
        sample: Tensor,
    ) -> Tensor:
        """Return [B, 1 + H + S] logits: the pick, the uploader's tracks, a uniform sample.

        The sample represents the `known` further tracks of the choice set or, with
        `contrast = "catalogue"`, the whole catalogue. The uploader's tracks are excluded from it,
        since they have columns of their own; with `masking`, so is the pick.
        """
        own_logit = (pick_factor * track_factor[own]).sum(dim=1, keepdim=True)
        in_sample = torch.full((len(tracks) + 1,), len(sample), device=self.device)
        in_sample[sample] = torch.arange(len(sample), device=self.device)
        excluded = torch.zeros(len(rows), len(sample) + 1, dtype=torch.bool, device=self.device)
        if self.config.masking:
            excluded.scatter_(1, in_sample[own][:, None], True)
        columns, represented = [own_logit], len(self.data.music)
        if self.config.contrast == "history":
            position = self._uploader_positions(rows, own, tracks)
            excluded.scatter_(1, in_sample[position], True)
            columns.append(self._logits_at(pick_factor, track_factor, position))
            represented = min(self.config.known, represented)
        rest = pick_factor @ track_factor[sample].T + math.log(represented / len(sample))
        columns.append(rest.masked_fill(excluded[:, :-1], -torch.inf))
        return torch.cat(columns, dim=1)

    def _uploader_positions(self, rows: Int64Array, own: Tensor, tracks: Tensor) -> Tensor:
        """Return int64[B, H]: positions in `tracks` of each uploader's tracks; -1 for none."""
        position_of = torch.full((len(self.group) + 1,), -1, device=self.device)
        position_of[tracks] = torch.arange(len(tracks), device=self.device)
        theirs = torch.from_numpy(self.uploader_tracks[self.uploader_row[rows]])
        position = position_of[theirs.to(self.device)]
        if self.config.masking:
            position = position.masked_fill(position == own[:, None], -1)
        return position

    @staticmethod
    def _logits_at(pick_factor: Tensor, track_factor: Tensor, position: Tensor) -> Tensor:
        """Return [B, H]: logits of the tracks at `position`, -inf where it is -1.

        Only positions that hold a track are multiplied, because most of the table is padding.
        """
        present = position >= 0
        pairs = pick_factor.index_select(0, present.nonzero()[:, 0]) * track_factor.index_select(
            0, position[present]
        )
        none = pick_factor.new_full(position.shape, -torch.inf)
        return none.masked_scatter(present, pairs.sum(dim=1))
