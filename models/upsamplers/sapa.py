"""SAPA: every new pixel is a mean of the old ones that look like the finer map at its place."""

from __future__ import annotations

from torch import Tensor, nn

from srfgan.models.upsamplers.reassembly import neighbourhoods, reassembled


class Sapa(nn.Module):
    """Similarity-aware point affiliation (Lu et al., "SAPA", section 3; its low-rank bilinear variant, SAPA-B).

    A new pixel weights the old ones around it by the softmax of their similarities to the finer map at its place:
    inner products after a normalisation over the channels and a linear layer of each map. The weights are the same
    in all channels. Outside the map lie zeros, whose similarity is zero.

    Args:
        channels: of both maps.
        embedding: channels that are compared (d); 32 is the detectors'.
        kernel: side of the neighbourhood, odd (K).
    """

    guided = True

    def __init__(self, channels: int, embedding: int = 32, kernel: int = 5) -> None:
        super().__init__()
        self.kernel = kernel
        self.norm_fine = nn.LayerNorm(channels)
        self.norm_coarse = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, embedding)
        self.key = nn.Linear(channels, embedding)
        for linear in (self.query, self.key):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, C, H, W) and the finer map, (N, C, 2H, 2W), to (N, C, 2H, 2W)."""
        height, width = coarse.shape[-2:]
        queries = self.query(self.norm_fine(fine.permute(0, 2, 3, 1)))  # (N, 2H, 2W, d)
        keys = self.key(self.norm_coarse(coarse.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)  # (N, d, H, W)
        # The four new pixels of each old one: (N, H, W, 4, d).
        queries = queries.unflatten(2, (width, 2)).unflatten(1, (height, 2)).transpose(2, 3).flatten(3, 4)
        similarities = queries @ neighbourhoods(keys, self.kernel).transpose(3, 4)  # (N, H, W, 4, taps)
        return reassembled(neighbourhoods(coarse, self.kernel), similarities.softmax(dim=-1))
