"""Swin Transformers from timm (Swin paper, section 3), shifted as the published detectors do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import timm
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from srfgan.models.config import BackboneConfig

TIMM_NAMES = {"swin_t": "swin_tiny_patch4_window7_224", "swin_l": "swin_large_patch4_window12_384"}

_STAGES = ["patch_embed", "layers_0", "layers_1", "layers_2", "layers_3"]
_DROP_PATH = 0.2
"""Stochastic depth of the last block in training; it rises from 0 at the first."""


class Swin(nn.Module):
    """A timm Swin Transformer that gives {"res2", "res3", "res4", "res5"}, each through a norm of its own.

    Args:
        config: `freeze_at` counts the patch embedding as the stem; `norm` and `stride_in_1x1` do not apply.
        levels: the outputs; one that no neck takes would leave its norm without a gradient.

    Attributes:
        body: timm's feature extractor with `ShiftedBlock`s.
        norms: the layer norm of each output.
        channels: channels of each output.
    """

    body: Any

    def __init__(self, config: BackboneConfig, levels: Sequence[str]) -> None:
        super().__init__()
        self.body = timm.create_model(
            TIMM_NAMES[config.name], features_only=True, strict_img_size=False, drop_path_rate=_DROP_PATH
        )
        widths = dict(zip(["res2", "res3", "res4", "res5"], self.body.feature_info.channels(), strict=True))
        self.channels = {level: widths[level] for level in levels}
        self.norms = nn.ModuleDict({level: nn.LayerNorm(width) for level, width in self.channels.items()})
        for name in _STAGES[1:]:
            blocks = self.body[name].blocks
            for index, block in enumerate(blocks):
                blocks[index] = ShiftedBlock(block, shifted=index % 2 == 1)
        self._frozen = _STAGES[: config.freeze_at]
        for name in self._frozen:
            self.body[name].requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Without stochastic depth in frozen stages, as in the published detectors: nothing could adapt to it."""
        super().train(mode)
        for name in self._frozen:
            self.body[name].eval()
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) to feature maps (N, C, H/s, W/s), s = 4, 8, 16, 32."""
        maps = dict(zip(["res2", "res3", "res4", "res5"], self.body(x), strict=True))
        return {level: norm(maps[level]).permute(0, 3, 1, 2) for level, norm in self.norms.items()}


class ShiftedBlock(nn.Module):
    """A Swin block that pads its map to whole windows before the cyclic shift; timm pads after it.

    The padding takes part in the attention. A map smaller than a window is shifted like any other.

    Args:
        block: timm's block, whose layers this one takes over.
        shifted: shift by half a window.
    """

    def __init__(self, block: SwinTransformerBlock, *, shifted: bool) -> None:
        super().__init__()
        self.norm1, self.attn, self.drop_path1 = block.norm1, block.attn, block.drop_path1
        self.norm2, self.mlp, self.drop_path2 = block.norm2, block.mlp, block.drop_path2
        self.window: int = block.attn.window_size[0]
        self.shift = self.window // 2 if shifted else 0

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape (Swin paper, equation 3)."""
        x = x + self.drop_path1(self._attend(self.norm1(x)))
        y: Tensor = x + self.drop_path2(self.mlp(self.norm2(x)))
        return y

    def _attend(self, x: Tensor) -> Tensor:
        images, height, width, channels = x.shape
        window = self.window
        # Sizes are counted in whole windows throughout: an exported graph for images of any size then need not
        # prove that a padded side divides by the window, which took longer with every block.
        down, across = ((side + window - 1) // window for side in (height, width))
        x = F.pad(x, (0, 0, 0, across * window - width, 0, down * window - height))
        mask = None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
            mask = shift_mask(down, across, window, self.shift, x.device)
        x = x.view(images, down, window, across, window, channels).transpose(2, 3)
        x = self.attn(x.reshape(images * down * across, window * window, channels), mask=mask)
        x = x.view(images, down, across, window, window, channels).transpose(2, 3)
        x = x.reshape(images, down * window, across * window, channels)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


def shift_mask(down: int, across: int, window: int, shift: int, device: torch.device) -> Tensor:
    """What the shift brought together must not attend to each other (Swin paper, figure 4).

    Args:
        down, across: size of the shifted map, in windows.

    Returns:
        (windows, window^2, window^2) float32 to add to the attention: 0 within a region, -100 between two.
    """
    row, column = (_regions(count, window, shift, device) for count in (down, across))
    region = 3 * row[:, None, :, None] + column[None, :, None, :]  # (down, across, window, window)
    inside = region.reshape(down * across, window * window)  # (down * across, window * window)
    return (inside[:, None] != inside[:, :, None]) * -100.0


def _regions(windows: int, window: int, shift: int, device: torch.device) -> Tensor:
    """(windows, window) int64: 0 in whole windows, 1 and 2 in the two parts that share the last one."""
    is_last = torch.arange(windows, device=device) == windows - 1
    part = 1 + (torch.arange(window, device=device) >= window - shift).long()
    return is_last[:, None] * part
