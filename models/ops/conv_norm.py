"""A convolution joined to its batch norm, and the joining of those in a network of timm's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from srfgan.models.ops.convolution import convolved
from srfgan.models.ops.remembered import Remembered


class ConvNorm(nn.Conv2d):
    """A convolution and its normalisation.

    A frozen norm is folded into the weight, so that it costs no pass over the feature map; what does not change
    from one call to the next is computed once. Kernels, strides and paddings are the same in both directions.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            kernel_size=conv.kernel_size[0],
            stride=conv.stride[0],
            padding=int(conv.padding[0]),
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        self.weight = conv.weight
        self.bias = conv.bias
        self.norm = norm
        self._affine = Remembered[tuple[Tensor, Tensor]]()
        self._folded = Remembered[tuple[Tensor, Tensor]]()
        self._rounded = Remembered[tuple[Tensor, Tensor]]()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W'), without activation."""
        if not isinstance(self.norm, FrozenBatchNorm2d):
            y: Tensor = self.norm(convolved(x, self.weight, self.bias, *self._steps))
            return y
        weight, shift = self._weight_and_shift(self.norm)
        if not weight.requires_grad and not x.is_meta and torch.is_autocast_enabled(x.device.type):
            weight, shift = self._rounded_to(torch.get_autocast_dtype(x.device.type), weight, shift)
        return convolved(x, weight, shift, *self._steps)

    @property
    def _steps(self) -> tuple[int, int, int]:
        return self.stride[0], int(self.padding[0]), self.groups

    def _weight_and_shift(self, norm: FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
        """Of the convolution that norm and convolution are together."""
        affine = tuple(norm._buffers.values())  # in half the time of asking for each by its name
        if self.bias is not None:
            return _fold(self.weight, *self._affine.of(affine, lambda: _scale_and_shift(norm)), self.bias)
        if torch.is_grad_enabled() and self.weight.requires_grad:
            scale, shift = self._affine.of(affine, lambda: _scale_and_shift(norm))
            return self.weight * scale[:, None, None, None], shift
        return self._folded.of((self.weight, *affine), lambda: _fold(self.weight, *_scale_and_shift(norm)))

    def _rounded_to(self, dtype: torch.dtype, weight: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """As autocast would, but once: it keeps what it rounds of trained tensors alone."""
        kept = self._rounded.of((weight, shift), lambda: (weight.to(dtype), shift.to(dtype)))
        return kept if kept[0].dtype == dtype else (weight.to(dtype), shift.to(dtype))


def _scale_and_shift(norm: FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """What the norm multiplies channels with, and then adds: (C,) each."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def _fold(weight: Tensor, scale: Tensor, shift: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    if bias is not None:
        shift = shift + bias * scale
    return weight * scale[:, None, None, None], shift


def join_norms(stage: nn.Module, *, frozen_norm: bool) -> None:
    """Replace each (convolution, batch norm) of neighbours anywhere in `stage` by (ConvNorm, what is left).

    What is left of a norm is the activation that timm's joint layers hold, or nothing.
    """
    for parent in list(stage.modules()):
        join_children(parent, frozen_norm=frozen_norm)


def join_children(parent: nn.Module, *, frozen_norm: bool) -> None:
    """As `join_norms`, among the direct children of `parent` only."""
    conv_name = ""
    for name, child in list(parent.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            rest = take_activation(child)
            norm = FrozenBatchNorm2d(child.num_features, child.eps) if frozen_norm else child
            setattr(parent, conv_name, ConvNorm(getattr(parent, conv_name), norm))
            setattr(parent, name, rest)
        conv_name = name


def as_frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    """A batch norm as it stands in evaluation mode, with values that no longer change."""
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps)
    kept = frozen.state_dict()
    frozen.load_state_dict(kept | {name: value for name, value in norm.state_dict().items() if name in kept})
    return frozen


def take_activation(norm: nn.BatchNorm2d) -> nn.Module:
    """The activation that timm's joint layers hold in a norm, taken out of it; an identity where there is none."""
    activation = getattr(norm, "act", None)
    if not isinstance(activation, nn.Module):
        return nn.Identity()
    norm.act = nn.Identity()
    return activation
