"""FreqFusion: what is upsampled is smoothed, what it is added to is sharpened, by filters that both maps choose."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.errors import InputError
from srfgan.models.upsamplers.reassembly import filtered, upsampled
from srfgan.models.upsamplers.resampling import read_moved

_DISTANCE = 2
"""To the neighbours that a pixel is compared with, in pixels."""


class FreqFusion(nn.Module):
    """Frequency-aware feature fusion (Chen et al., "Frequency-aware Feature Fusion", its sizes in Faster R-CNN).

    The paper's module gives both maps, to be added: the coarse one upsampled by adaptive low-pass filters and read at
    points that the likeness of neighbours moves, and the finer one with what an adaptive high-pass filter leaves of
    it added once more. Here the second's addition comes with the first: in a pyramid that adds the finer map to what
    its upsampler gives (FPN, PAFPN, torchvision's), the sum is the paper's. BiFPN weights the two before it adds
    them, and so weights the details as a part of the coarse map, which is not in the paper.

    Args:
        channels: of both maps; a multiple of 4, and of `groups`.
        reduction: how many times fewer channels the filters and points are predicted from.
        low: side of the low-pass filters, odd.
        high: side of the high-pass filters, odd.
        groups: how many groups of channels have their own points.
    """

    guided = True
    low_window: Tensor
    high_window: Tensor

    def __init__(
        self, channels: int, reduction: int = 4, low: int = 5, high: int = 3, groups: int = 4
    ) -> None:
        super().__init__()
        if channels % math.lcm(reduction, groups):
            raise InputError(
                f"channels must be a multiple of {math.lcm(reduction, groups)}, got {channels}: FreqFusion compares a "
                f"{reduction}th of them, and moves {groups} groups"
            )
        embedding = channels // reduction
        self.compress_coarse = nn.Conv2d(channels, embedding, 1)
        self.compress_fine = nn.Conv2d(channels, embedding, 1)
        self.low = nn.Conv2d(embedding, low**2, 3, padding=1)
        self.high = nn.Conv2d(embedding, high**2, 3, padding=1)
        self.moves = LikenessMoves(embedding, groups)
        for conv in (self.compress_coarse, self.compress_fine, self.low, self.high):
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        for conv in (self.compress_coarse, self.compress_fine):
            nn.init.xavier_uniform_(conv.weight)
        for conv in (self.low, self.high):
            nn.init.normal_(conv.weight, std=0.001)
        self.register_buffer("low_window", _log_window(low), persistent=False)
        self.register_buffer("high_window", _log_window(high), persistent=False)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, C, H, W) and the finer map, (N, C, 2H, 2W), to (N, C, 2H, 2W)."""
        small, large = self.compress_coarse(coarse), self.compress_fine(fine)
        # Before they choose the filters, the compressed maps are sharpened and upsampled by filters like those.
        high = self.high(large)  # (N, high**2, 2H, 2W)
        large = 2 * large - filtered(large, _filters(high, self.high_window)).to(large.dtype)
        low = self.low(large)  # (N, low**2, 2H, 2W)
        low = low + upsampled(self.low(small), _filters(low, self.low_window))
        smooth = _filters(low, self.low_window)
        high = high + upsampled(self.high(small), smooth)
        new = read_moved(upsampled(coarse, smooth), self.moves(small, large))
        details = fine - filtered(fine, _filters(high, self.high_window))
        return (new + details).to(coarse.dtype)


class LikenessMoves(nn.Module):
    """How far each new pixel's points move: towards neighbours that are alike (the paper's offset generator).

    Args:
        channels: of both compressed maps.
        groups: how many points a new pixel has.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        # Groups of eight channels; where these do not come out even, as many as can.
        norms = math.gcd(max(1, channels // 8), channels)
        self.norm_coarse, self.norm_fine = nn.GroupNorm(norms, channels), nn.GroupNorm(norms, channels)
        self.coarse_move, self.coarse_scope = (
            nn.Conv2d(channels + 8, 2 * groups * 4, 3, padding=1) for _ in range(2)
        )
        self.fine_move, self.fine_scope = (
            nn.Conv2d(channels + 8, 2 * groups, 3, padding=1) for _ in range(2)
        )
        for conv in (self.coarse_move, self.coarse_scope, self.fine_move, self.fine_scope):
            # As the authors' code trains them: it makes them smaller, and then starts all convolutions like this.
            nn.init.xavier_uniform_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, C, H, W) and (N, C, 2H, 2W) to (N, groups, 2, 2H, 2W), right and down, in old pixels; float32."""
        precise = torch.promote_types(coarse.dtype, torch.float32)
        coarse, fine = _with_likeness(self.norm_coarse(coarse)), _with_likeness(self.norm_fine(fine))
        move = F.pixel_shuffle(self.coarse_move(coarse), 2).to(precise) + self.fine_move(fine)
        scope = F.pixel_shuffle(self.coarse_scope(coarse), 2).to(precise) + self.fine_scope(fine)
        moves: Tensor = (move * scope.sigmoid()).unflatten(1, (2, self.groups))
        return moves.transpose(1, 2)


def _with_likeness(x: Tensor) -> Tensor:
    """A map (N, C, H, W) and the cosines of each pixel with eight around it: (N, C + 8, H, W); zeros lie outside."""
    height, width = x.shape[-2:]
    unit = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1, eps=1e-8)
    padded = F.pad(unit, [_DISTANCE] * 4)
    places = [(row * _DISTANCE, column * _DISTANCE) for row in range(3) for column in range(3)]
    places.remove((_DISTANCE, _DISTANCE))
    cosines = [
        (unit * padded[..., row : row + height, column : column + width]).sum(dim=1) for row, column in places
    ]
    return torch.cat([x, torch.stack(cosines, dim=1).to(x.dtype)], dim=1)


def _filters(logits: Tensor, log_window: Tensor) -> Tensor:
    """Positive weights (N, taps, H, W) of sum 1: a softmax, times the window, over their sum."""
    precise = torch.promote_types(logits.dtype, torch.float32)
    return (logits.to(precise) + log_window).softmax(dim=1)


def _log_window(kernel: int) -> Tensor:
    """The logarithm of a Hamming window in two dimensions, (taps, 1, 1)."""
    window = torch.hamming_window(kernel, periodic=False).log()
    return (window[:, None] + window).view(-1, 1, 1)
