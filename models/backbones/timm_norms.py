"""The batch norms of a network of timm's: frozen where they shall be, and joined to their convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from srfgan.models.ops.conv_norm import ConvNorm, as_frozen, take_activation


def settle_norms(body: nn.Module, joints: Mapping[str, str], is_frozen: Callable[[str], bool]) -> None:
    """Give every batch norm of `body` its place, with the values that it has.

    Args:
        body: any network; it computes the same afterwards, but for norms that are now frozen.
        joints: names of convolutions, and of the norms that alone take their results.
        is_frozen: of a norm's name.
    """
    convs = {norm: conv for conv, norm in joints.items()}
    norms = {name: module for name, module in body.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, norm in norms.items():
        activation = take_activation(norm)
        settled = as_frozen(norm) if is_frozen(name) else norm
        conv = body.get_submodule(convs[name]) if name in convs else None
        if isinstance(conv, nn.Conv2d) and _can_be_joined(conv):
            body.set_submodule(convs[name], _joined(conv, settled))
            body.set_submodule(name, activation)
        elif isinstance(activation, nn.Identity):
            body.set_submodule(name, settled)
        else:
            body.set_submodule(name, nn.Sequential(settled, activation))


def _can_be_joined(conv: nn.Conv2d) -> bool:
    """Whether it is an ordinary convolution, the same in both directions, or one of TensorFlow's."""
    if type(conv) not in (nn.Conv2d, Conv2dSame) or conv.padding_mode != "zeros" or conv.dilation != (1, 1):
        return False
    return all(
        isinstance(pair, tuple) and pair[0] == pair[1]
        for pair in (conv.kernel_size, conv.stride, conv.padding)
    )


def _joined(conv: nn.Conv2d, norm: nn.Module) -> nn.Module:
    joined = ConvNorm(conv, norm)
    if not isinstance(conv, Conv2dSame):
        return joined
    # TensorFlow's padding depends on the map's size; of maps whose sides divide by the stride it does not.
    total = max(conv.kernel_size[0] - conv.stride[0], 0)
    before, after = total // 2, total - total // 2
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), joined)
