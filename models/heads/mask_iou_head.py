"""The mask-IoU head: how good a predicted mask is (Mask Scoring R-CNN, section 3.2)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.heads.convs import conv3x3


class MaskIoUHead(nn.Module):
    """A box's features and its mask through convolutions and linear layers to one IoU per class.

    Args:
        channels: width of the pyramid.
        num_classes: without background.
        num_convs: at least one; the last one halves the features.
        conv_channels: their width.
        fc_dim: width of the two linear layers.
        resolution: rows and columns of the features.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        num_convs: int,
        conv_channels: int,
        fc_dim: int,
        resolution: int,
    ) -> None:
        super().__init__()
        widths = [channels + 1] + [conv_channels] * num_convs
        self.convs = nn.ModuleList(
            conv3x3(before, after, "none", stride=2 if index == num_convs else 1)
            for index, (before, after) in enumerate(pairwise(widths), start=1)
        )
        features = [conv_channels * ((resolution + 1) // 2) ** 2, fc_dim, fc_dim]
        fcs = [nn.Linear(before, after) for before, after in pairwise(features)]
        self.fcs = nn.ModuleList(fcs)
        self.ious = nn.Linear(fc_dim, num_classes)
        for layer in fcs:
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.ious.weight, std=0.01)
        nn.init.zeros_(self.ious.bias)

    def forward(self, pooled: Tensor, probs: Tensor) -> Tensor:
        """IoU (R, num_classes) of each mask with its object, if it is of that class; not limited to 0..1.

        Args:
            pooled: (R, C, M, M) features of the boxes.
            probs: (R, 2M, 2M) masks in 0..1 over them.
        """
        x = torch.cat([pooled, F.max_pool2d(probs[:, None], 2)], dim=1)  # (R, C + 1, M, M)
        x = x.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            x = torch.relu_(conv(x))
        x = x.flatten(1)
        for fc in self.fcs:
            x = torch.relu_(fc(x))
        ious: Tensor = self.ious(x)
        return ious
