"""A module shown under other names: the same tensors, wherever they are moved or copied."""

import copy

import torch
from timm.layers import DropPath
from torch import nn

from srfgan.models.ops.conv_norm import ConvNorm
from srfgan.models.weights.renamed import Renamed

NAMES = {
    "0.weight": "a.b/conv.weight",
    "0.norm.weight": "a.b/norm.weight",
    "0.norm.bias": "a.b/norm.bias",
    "0.norm.running_mean": "a.b/norm.running_mean",
    "0.norm.running_var": "a.b/norm.running_var",
    "0.norm.num_batches_tracked": "a.b/norm.num_batches_tracked",
    "2.scale": "alone",
}


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * self.scale


def renamed():
    torch.manual_seed(0)
    joined = ConvNorm(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    return Renamed(nn.Sequential(joined, DropPath(0.5), Scaled()), lambda name: NAMES.get(name, name))


def test_tensors_have_the_new_names_and_layers_their_types():
    shown = renamed()
    assert set(shown.state_dict()) == set(NAMES.values())
    assert [name for name, _ in shown.named_parameters()] == [
        "alone",
        "a.b/conv.weight",
        "a.b/norm.weight",
        "a.b/norm.bias",
    ]
    # What optimizers ask to leave norms without weight decay.
    assert isinstance(shown.get_submodule("a.b/norm"), nn.BatchNorm2d)


def test_it_computes_with_the_tensors_it_shows():
    shown = renamed().eval()
    x = torch.ones(2, 3, 5, 5)
    other = renamed()
    other.load_state_dict({name: torch.zeros_like(value) for name, value in shown.state_dict().items()})
    assert not other.eval()(x).any()
    twin = copy.deepcopy(shown)
    twin.load_state_dict(other.state_dict())
    assert not twin(x).any()
    assert shown(x).any()
    # Buffers are replaced, not changed, when a module is cast.
    assert shown.double()(x.double()).dtype == torch.float64
    assert shown.state_dict()["a.b/norm.running_var"].dtype == torch.float64


def test_the_mode_reaches_layers_without_tensors():
    shown = renamed()
    x = torch.rand(64, 3, 2, 2)
    dropped = [(shown.train(mode)(x).flatten(1) == 0).all(1).any().item() for mode in (True, False, True)]
    assert dropped == [True, False, True]
    assert [shown.eval().training, shown.train().training] == [False, True]
