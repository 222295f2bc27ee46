"""FADE: CARAFE's weights from both maps, and a gate by which the finer one passes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.upsamplers.reassembly import upsampled


class Fade(nn.Module):
    """Fusing the assets of decoder and encoder (Lu et al., "FADE": semi-shift convolution and gate).

    The old pixels around each new one are summed with weights from a convolution of both maps: of the finer one at
    the new pixel, of the coarse one at the old, with the same kernel. The coarse map then says, pixel by pixel, how
    much of the result is the finer map itself. A pyramid adds the finer map once more, as to any upsampler's result.

    Args:
        channels: of both maps.
        embedding: channels that the weights are predicted from.
        kernel: side of the neighbourhood, odd.
    """

    guided = True

    def __init__(self, channels: int, embedding: int = 64, kernel: int = 5) -> None:
        super().__init__()
        self.compress_coarse = nn.Conv2d(channels, embedding, 1, bias=False)
        self.compress_fine = nn.Conv2d(channels, embedding, 1)
        self.encode = nn.Conv2d(embedding, kernel**2, 3, padding=1)
        self.gate = nn.Conv2d(channels, 1, 1)
        for conv in (self.compress_coarse, self.compress_fine, self.encode, self.gate):
            nn.init.xavier_uniform_(conv.weight)
        for conv in (self.compress_fine, self.encode, self.gate):
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, C, H, W) and the finer map, (N, C, 2H, 2W), to (N, C, 2H, 2W)."""
        precise = torch.promote_types(coarse.dtype, torch.float32)
        # The four shifted convolutions at stride 2 that the paper draws are one over the finer map.
        logits = self.encode(self.compress_fine(fine)).to(precise)  # (N, taps, 2H, 2W)
        logits = logits + F.interpolate(self.encode(self.compress_coarse(coarse)), scale_factor=2.0)
        gate = F.interpolate(self.gate(coarse).to(precise), scale_factor=2.0).sigmoid()  # (N, 1, 2H, 2W)
        new = upsampled(coarse, logits.softmax(dim=1))
        return (gate * fine + (1 - gate) * new).to(coarse.dtype)
