"""LDA-AQU: every new pixel attends to a few points of the old map around it, which it moves itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.errors import InputError


class LdaAqu(nn.Module):
    """Local deformable attention of new pixels to old ones (Du et al., "LDA-AQU"; its sizes in Faster R-CNN).

    The queries of new pixels are the old ones' interpolated. A query says how far each of its points, at first
    `kernel` x `kernel` new pixels around its own place, moves; keys and values are read there, and the new pixel is
    the mean of the values, weighted by the softmax of its products with the keys. Values are the map itself, not
    projected. Each group of channels has its own points. Corners lie on corners, as in the authors' code, and outside
    the map lie zeros.

    Args:
        channels: of the map; a multiple of `reduction * groups`.
        reduction: how many times fewer channels queries and keys have.
        kernel: side of the points' first grid, odd (k_u).
        encoder: kernel of the convolution that predicts how far they move, odd (k_e).
        groups: how many groups of channels.
        reach: how far a point moves at most, in new pixels.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        kernel: int = 3,
        encoder: int = 3,
        groups: int = 2,
        reach: float = 11.0,
    ) -> None:
        super().__init__()
        if channels % (reduction * groups):
            raise InputError(
                f"channels must be a multiple of {reduction * groups}, got {channels}: LDA-AQU compares "
                f"{groups} groups of a {reduction}th of them"
            )
        embedding = channels // reduction
        grouped = embedding // groups
        self.kernel, self.groups, self.reach = kernel, groups, reach
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Conv2d(channels, embedding, 1, bias=False)
        self.key = nn.Conv2d(channels, embedding, 1, bias=False)
        self.key_bias = nn.Parameter(torch.empty(kernel**2, embedding))
        self.context = nn.Conv2d(grouped, grouped, 3, padding=1, groups=grouped, bias=False)
        self.context_norm = nn.LayerNorm(grouped)
        self.offset = nn.Conv2d(grouped, 2 * kernel**2, encoder, padding=encoder // 2)
        for conv in (self.query, self.key, self.context):
            nn.init.xavier_uniform_(conv.weight)
        nn.init.trunc_normal_(self.key_bias, std=0.02)
        nn.init.zeros_(self.offset.weight)  # no point has moved yet
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        precise = torch.promote_types(x.dtype, torch.float32)
        normed = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        queries = F.interpolate(self.query(normed), scale_factor=2.0, mode="bilinear", align_corners=True)
        points = self._points(queries, precise)  # (N * groups, taps, 2H, 2W, 2)
        keys, values = self._grouped(self.key(normed).to(precise)), self._grouped(x.to(precise))
        queries = queries.to(precise) / queries.shape[1] ** 0.5
        # One tap after another: all at once are `kernel**2` maps of the finer size, which only training has to hold.
        taps = points.unbind(1)
        similarities = [
            (queries * (self._read(keys, tap) + bias[:, None, None])).sum(dim=1)
            for tap, bias in zip(taps, self.key_bias, strict=True)
        ]
        weights = torch.stack(similarities, dim=1).softmax(dim=1)  # (N, taps, 2H, 2W)
        new = weights[:, :1] * self._read(values, taps[0])
        for index, tap in enumerate(taps[1:], start=1):
            new = new + weights[:, index : index + 1] * self._read(values, tap)
        return new.to(x.dtype)

    def _points(self, queries: Tensor, precise: torch.dtype) -> Tensor:
        """Where the points of all new pixels lie: x and y, with the old map's corners at -1 and 1."""
        height, width = queries.shape[-2:]
        context = self.context(self._grouped(queries)).permute(0, 2, 3, 1)
        context = F.gelu(self.context_norm(context)).permute(0, 3, 1, 2)
        moved = self.reach * self.offset(context).to(precise).tanh().unflatten(1, (-1, 2))
        grid = torch.arange(self.kernel, dtype=precise, device=queries.device) - self.kernel // 2
        rows = torch.arange(height, dtype=precise, device=queries.device)[:, None]
        rows = rows + grid.repeat_interleave(self.kernel)[:, None, None] + moved[:, :, 0]
        columns = torch.arange(width, dtype=precise, device=queries.device)
        columns = columns + grid.repeat(self.kernel)[:, None, None] + moved[:, :, 1]
        return torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], dim=-1)

    def _grouped(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N * groups, C / groups, H, W)."""
        split: Tensor = x.unflatten(1, (self.groups, -1))
        return split.flatten(0, 1)

    def _read(self, grouped: Tensor, points: Tensor) -> Tensor:
        """A grouped map at (N * groups, 2H, 2W, 2) points: (N, C, 2H, 2W)."""
        read = F.grid_sample(grouped, points, padding_mode="zeros", align_corners=True)
        split: Tensor = read.unflatten(0, (-1, self.groups))
        return split.flatten(1, 2)
