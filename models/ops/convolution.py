"""Convolutions on a CPU: gradients by the faster of oneDNN's ways, inference shortened.

Feature maps lie channels last, where forward passes and the gradients of maps are fastest. oneDNN's gradient of the
weight is not always: without AVX-512, at 256 channels and 200x304 pixels, it takes ten times as long as on contiguous
maps, and most of a training step; with it, only a strided convolution of many channels is faster on contiguous ones.
Depthwise convolutions have slow gradients in bfloat16. Inference can go by Winograd's algorithm.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srfgan.models.ops import winograd
from srfgan.models.ops.remembered import Remembered

_LARGE = 2048
"""Pixels of a map from which on the copies pay."""
_PAIRS, _MANY = 256 * 256, 512
"""Channels in times channels out of a 3x3 convolution, and pixels of each map, from which on Winograd's algorithm pays
(`benchmarks/winograd.py`): on regions of 14x14 it does not."""

_HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"

_FEW = 16
"""Channels that AVX-512 takes at a time."""

_STRIDED = 64
"""Channels in and out from which on, with AVX-512, the weight's gradient of a strided convolution is faster on
contiguous maps: the layer's step takes 0.85 to 0.96, that of others 1.04 to 3.5."""


class Conv2d(nn.Conv2d):
    """As torch's.

    Attributes:
        winograd: whether inference in float32 on a CPU may go by `srfgan.models.ops.winograd`, where that is faster.
    """

    winograd = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._transformed = Remembered[tuple[Tensor, Tensor | None]]()

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        if _pays(input, self.weight, self.groups, self.stride[0]):
            result: Tensor = _Convolution.apply(
                input, self.weight, self.bias, self.stride[0], int(self.padding[0]), False
            )
            return result
        if goes_by_winograd(input, self):
            return winograd.convolved(input, *transformed(self))
        return super().forward(input)


class ConvTranspose2d(nn.ConvTranspose2d):
    """As torch's, without an output size.

    Attributes:
        winograd: as of `Conv2d`.
    """

    winograd = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._transformed = Remembered[tuple[Tensor, Tensor | None]]()

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        if output_size is not None:
            return super().forward(input, output_size)
        if _pays(input, self.weight, self.groups, self.stride[0]):
            result: Tensor = _Convolution.apply(
                input, self.weight, self.bias, self.stride[0], int(self.padding[0]), True
            )
            return result
        if goes_by_winograd(input, self):
            return winograd.convolved(input, *transformed(self))
        return super().forward(input)


def use_winograd(network: nn.Module, use: bool) -> None:
    """Whether the layers of a network that are `Conv2d` or `ConvTranspose2d` here may go by Winograd's algorithm."""
    for layer in network.modules():
        if isinstance(layer, Conv2d | ConvTranspose2d):
            layer.winograd = use


def goes_by_winograd(x: Tensor, layer: Conv2d | ConvTranspose2d, norm: nn.BatchNorm2d | None = None) -> bool:
    """Whether a layer may go by Winograd's algorithm and is faster so, and whether its norm can be folded into it.

    Args:
        x: maps (N, C, H, W) as large as the layer's.
        layer: of a neck, a generator or a head.
        norm: after it.
    """
    form = (3, 1, 1) if isinstance(layer, Conv2d) else (6, 2, 2)
    return (
        layer.winograd
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not layer.training
        and layer.in_channels * layer.out_channels * form[1] ** 2 >= _PAIRS
        and x.shape[2] * x.shape[3] >= _MANY
        and (layer.kernel_size, layer.stride, layer.padding) == tuple((size, size) for size in form)
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and x.dtype == layer.weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and type(x) is Tensor  # and no stand-in, as an exporter's, whose number of maps nothing may ask
        and len(x) > 0  # as of boxes, of which an image may have none
        and not layer.weight.is_inference()  # of which nothing can be kept
        and (norm is None or (type(norm) is nn.BatchNorm2d and not norm.training))
    )


def transformed(
    layer: Conv2d | ConvTranspose2d, norm: nn.BatchNorm2d | None = None
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias that `winograd.convolved` takes for a layer and the norm after it, which are kept."""

    def compute() -> tuple[Tensor, Tensor | None]:
        transposed = isinstance(layer, ConvTranspose2d)
        weight = winograd.as_3x3(layer.weight) if transposed else layer.weight
        made = winograd.transformed(weight, 2 if transposed else 1)
        if norm is None:
            return made, layer.bias
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        before = norm.running_mean if layer.bias is None else norm.running_mean - layer.bias
        return made * scale, norm.bias - before * scale

    sources = (layer.weight, layer.bias, *(() if norm is None else (*norm.parameters(), *norm.buffers())))
    return layer._transformed.of([x for x in sources if x is not None], compute)


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int = 1
) -> Tensor:
    """`F.conv2d` of the same stride and padding in both directions."""
    if _writes_beyond(x, weight, stride):
        x, stride = x[..., ::stride, ::stride], 1
    result: Tensor
    if _pays(x, weight, groups, stride):
        result = _Convolution.apply(x, weight, bias, stride, padding, False)
    elif _has_slow_gradients(x, weight, groups, stride):
        result = _Depthwise.apply(x.bfloat16(), weight, bias, stride, padding)
    else:
        result = F.conv2d(x, weight, bias, stride, padding, groups=groups)
    return result


def _writes_beyond(x: Tensor, weight: Tensor, stride: int) -> bool:
    """Whether oneDNN's gradient of the weight may write beyond its memory, which ends the process or spoils numbers.

    With AVX-512 it does so for 1x1 convolutions of stride 2 on less than 16 channels, as RepVGG's and FastViT's first.
    """
    return (
        stride > 1
        and weight.shape[-1] == 1
        and weight.shape[1] < _FEW
        and x.device.type == "cpu"
        and torch.is_grad_enabled()
        and weight.requires_grad
    )


def _pays(x: Tensor, weight: Tensor, groups: int, stride: int) -> bool:
    """Whether a convolution learns faster if its weight's gradient is computed on contiguous maps."""
    return (
        x.device.type == "cpu"
        and torch.is_grad_enabled()
        and weight.requires_grad
        and groups == 1
        and weight.shape[-1] > 1
        and x.shape[-2] * x.shape[-1] >= _LARGE
        and x.dtype == torch.float32
        and not x.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and (not _HAS_AVX512 or (stride > 1 and min(weight.shape[:2]) >= _STRIDED))
    )


def _has_slow_gradients(x: Tensor, weight: Tensor, groups: int, stride: int) -> bool:
    """Whether oneDNN's gradients of a depthwise convolution take 2.5 to 5.6 times as long in bfloat16 as in float32."""
    return (
        x.device.type == "cpu"
        and groups == weight.shape[0] > 1
        and (weight.shape[-1] > 3 or (stride > 1 and weight.shape[-1] > 1))
        and torch.is_grad_enabled()
        and (x.requires_grad or weight.requires_grad)
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and not torch.compiler.is_compiling()
    )


class _Convolution(torch.autograd.Function):
    """A convolution, or a transposed one, of one group and without dilation."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, transposed: bool
    ) -> Tensor:
        """The ordinary one."""
        ctx.save_for_backward(x, weight)
        ctx.options = (stride, padding, transposed)
        convolution = F.conv_transpose2d if transposed else F.conv2d
        return convolution(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the maps, of the weight, in its own layout, and of the bias."""
        x, weight = ctx.saved_tensors
        of_map, of_weight, of_bias = ctx.needs_input_grad[:3]
        maps = _gradients(gradient, x, weight, ctx.options, (True, False))[0] if of_map else None
        weights = None
        if of_weight:
            contiguous = gradient.contiguous(), x.contiguous(), weight.contiguous()
            weights = _gradients(*contiguous, ctx.options, (False, True))[1]
            weights = weights.contiguous(memory_format=torch.channels_last)
        return maps, weights, gradient.sum((0, 2, 3)) if of_bias else None, None, None, None


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution in bfloat16 whose gradients are computed in float32."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
    ) -> Tensor:
        """The ordinary one."""
        ctx.save_for_backward(x, weight)
        ctx.options = (stride, padding)
        rounded = None if bias is None else bias.to(x.dtype)
        return F.conv2d(x, weight.to(x.dtype), rounded, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the maps, of the weight and of the bias."""
        x, weight = ctx.saved_tensors
        of_map, of_weight, of_bias = ctx.needs_input_grad[:3]
        gradient = gradient.float()
        # Of the weight as it was rounded: the map that the forward pass saw.
        rounded = weight.to(x.dtype).float()
        stride, padding = ctx.options
        maps, weights, _ = _gradients(
            gradient, x.float(), rounded, (stride, padding, False), (of_map, of_weight), len(weight)
        )
        return (
            maps.to(x.dtype) if of_map else None,
            weights.to(weight.dtype) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
            None,
        )


def _gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    options: tuple[int, int, bool],
    wanted: tuple[bool, bool],
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    stride, padding, transposed = options
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient,
        x,
        weight,
        None,
        [stride] * 2,
        [padding] * 2,
        [1, 1],
        transposed,
        [0, 0],
        groups,
        [*wanted, False],
    )
    return found
