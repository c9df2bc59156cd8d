"""Standardises raw feature columns; a few broken rows do not move their mean or scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Standardised values are clipped to this many standard deviations from the mean.
CLIP = 10.0

# `robust_range` extends the range between these two quantiles by `_MARGIN` times its width.
_LOW_QUANTILE = 0.05
_MARGIN = 3.0

# Rows that quantiles are computed from; more would only cost time.
_QUANTILE_ROWS = 4096


def robust_range(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the range of each column outside of which values count as outliers.

    The range is the 5 % to 95 % quantile, extended by three times its width at both ends. For a
    normal column this is 11 standard deviations from the mean, slightly more than `CLIP`; of a
    log-normal column it holds all but one value in a thousand. A column whose two quantiles are
    equal, for instance zeros with a few ones, has no outliers: its range is infinite.

    Args:
        rows: float32[n, columns]; NaN and infinite values are ignored.

    Returns:
        (low, high), each float64[columns].
    """
    rows = rows[:: max(1, -(-len(rows) // _QUANTILE_ROWS))].double()
    columns = torch.where(torch.isfinite(rows), rows, torch.nan).T.contiguous()
    low = torch.nanquantile(columns, _LOW_QUANTILE, dim=1, interpolation="lower")
    high = torch.nanquantile(columns, 1.0 - _LOW_QUANTILE, dim=1, interpolation="higher")
    width = high - low
    bounded = (width > 0) & torch.isfinite(width)
    return (
        torch.where(bounded, low - _MARGIN * width, -torch.inf),
        torch.where(bounded, high + _MARGIN * width, torch.inf),
    )


class Standardise(nn.Module):
    """Centres and scales raw columns by the mean and standard deviation of training rows.

    Outliers (`robust_range`) do not count towards mean and deviation. In the output, NaN is zero
    (the column's mean), a constant or empty column is zero, and values end at `CLIP` standard
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
        """Set mean and scale from float32[n, columns]."""
        low, high = robust_range(rows)
        valid = torch.isfinite(rows) & (rows >= low) & (rows <= high)
        count = valid.sum(dim=0).clamp(min=1)
        clean = torch.where(valid, rows, 0.0).double()
        mean = clean.sum(dim=0) / count
        variance = torch.where(valid, clean - mean, 0.0).square().sum(dim=0) / count
        deviation = variance.sqrt()
        varies = deviation > 1e-6 * (1.0 + mean.abs())
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, 1.0 / deviation.clamp(min=1e-12), 0.0))

    def forward(self, rows: Tensor) -> Tensor:
        """Return float32[B, columns], mean 0 and standard deviation 1 on the training rows."""
        standard = torch.addcmul(-self.mean * self.scale, rows, self.scale)
        clean = standard.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        return clean.clamp_(-CLIP, CLIP)
