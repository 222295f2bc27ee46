"""CARAFE: every new pixel is a mean of its neighbourhood, weighted by what the map shows there."""

from __future__ import annotations

from torch import Tensor, nn

from srfgan.models.upsamplers.reassembly import neighbourhoods, reassembled


class Carafe(nn.Module):
    """Content-aware reassembly of features (Wang et al., "CARAFE", section 3, with its default sizes).

    A small network predicts 5x5 weights for each new pixel; it is the sum of the old pixels around it with
    these weights, which are the same in all channels. Outside the map lie zeros.

    Args:
        channels: of the map.
        compressed: channels that the weights are predicted from (C_m).
        kernel: side of the neighbourhood, odd (k_up).
        encoder: kernel of the predicting convolution, odd (k_encoder).
    """

    def __init__(self, channels: int, compressed: int = 64, kernel: int = 5, encoder: int = 3) -> None:
        super().__init__()
        self.kernel = kernel
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, 4 * kernel**2, encoder, padding=encoder // 2)
        nn.init.xavier_uniform_(self.compress.weight)
        nn.init.normal_(self.encode.weight, std=0.001)
        for conv in (self.compress, self.encode):
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        around = neighbourhoods(x, self.kernel)  # (N, H, W, taps, C)
        # Section 3.2, normalised over the taps: tap k of new pixel s is channel 4k + s.
        weights = self.encode(self.compress(x)).permute(0, 2, 3, 1).unflatten(3, (self.kernel**2, 4))
        return reassembled(around, weights.softmax(dim=3).transpose(3, 4))  # section 3.3
