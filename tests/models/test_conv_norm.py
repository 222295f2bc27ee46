"""A frozen norm folded into its convolution: the two layers' own result, and never one of weights that were."""

import copy
import io

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from srfgan.models.ops.conv_norm import ConvNorm


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def pair(request):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(4, 6, 3, padding=1, bias=request.param), FrozenBatchNorm2d(6)
    for buffer in norm.buffers():
        buffer.uniform_(0.5, 2)
    return conv, norm, ConvNorm(conv, norm)


def check(pair, x):
    conv, norm, own = pair
    torch.testing.assert_close(own(x), norm(conv(x)), rtol=1e-4, atol=1e-4)


CHANGES = {
    "optimizer": lambda conv, norm: torch.optim.SGD(conv.parameters(), lr=1.0).step(),
    "fused optimizer": lambda conv, norm: torch.optim.SGD(conv.parameters(), lr=1.0, fused=True).step(),
    "fused AdamW": lambda conv, norm: torch.optim.AdamW(conv.parameters(), lr=1.0, fused=True).step(),
    "weights": lambda conv, norm: conv.load_state_dict({k: v * 2 for k, v in conv.state_dict().items()}),
    "statistics": lambda conv, norm: norm.load_state_dict({k: v * 2 for k, v in norm.state_dict().items()}),
    "dtype": lambda conv, norm: (conv.double(), norm.double(), conv.float(), norm.float()),
    "data": lambda conv, norm: setattr(conv.weight, "data", conv.weight.data * 3),
    "nothing": lambda conv, norm: None,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("frozen", [True, False])
def test_a_change_is_seen_at_the_next_call(pair, change, frozen):
    conv, norm, joined = pair
    conv.requires_grad_(not frozen)
    x = torch.randn(2, 4, 8, 8)
    for mode in (torch.inference_mode, torch.no_grad, torch.enable_grad):
        with mode():
            check(pair, x)
        if not frozen:
            joined(x).sum().backward()
        CHANGES[change](conv, norm)
    with torch.inference_mode():
        check(pair, x)


def test_training_after_inference_has_the_two_layers_gradients(pair):
    conv, norm, joined = pair
    x = torch.randn(2, 4, 8, 8)
    with torch.inference_mode():
        joined(x)
    joined(x).square().sum().backward()
    gradient = conv.weight.grad.clone()
    conv.weight.grad = None
    norm(conv(x)).square().sum().backward()
    torch.testing.assert_close(gradient, conv.weight.grad, rtol=1e-4, atol=1e-3)


def test_copies_and_pickles_are_of_the_module_alone(pair):
    joined, x = pair[2].eval(), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        expected = joined(x)
        twin = copy.deepcopy(joined)
        file = io.BytesIO()
        torch.save(joined, file)
        joined.weight.zero_()
        torch.testing.assert_close(twin(x), expected)
        loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
        torch.testing.assert_close(loaded(x), expected)


def test_what_does_not_change_is_computed_once(pair, monkeypatch):
    joined, x = pair[2].eval(), torch.randn(1, 4, 8, 8)
    calls = []
    norm = pair[1]
    rsqrt = torch.Tensor.rsqrt
    monkeypatch.setattr(torch.Tensor, "rsqrt", lambda self: calls.append(1) or rsqrt(self))
    for _ in range(3):
        with torch.inference_mode():
            joined(x)
    assert len(calls) == 1 and norm.running_var.requires_grad is False
