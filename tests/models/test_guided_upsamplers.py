"""The seam that hands a guided upsampler the finer map, and SAPA, which is one, against its paper's formula."""

import numpy as np
import pytest
import torch
from torch import nn

from srfgan.models.config import BiFPNConfig, NeckConfig
from srfgan.models.factory import build_neck, build_upsampler
from srfgan.models.upsamplers.sapa import Sapa
from srfgan.models.upsamplers.seam import doubled, upsample_to

WIDTHS = {"res2": 8, "res3": 16, "res4": 24, "res5": 32}


class Recorder(nn.Module):
    """Nearest neighbour that keeps what it was called with."""

    def __init__(self, guided):
        super().__init__()
        self.calls = []
        if guided:
            self.guided = True

    def forward(self, *maps):
        self.calls.append(maps)
        return maps[0].repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_only_a_guided_upsampler_gets_the_finer_map_filled_up_to_twice_the_size():
    coarse, fine = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 8)
    plain, guided = Recorder(guided=False), Recorder(guided=True)
    for upsample in (plain, guided):
        assert doubled(upsample, coarse, fine).shape == (1, 2, 6, 8)
        torch.testing.assert_close(upsample_to(upsample, coarse, fine)[..., ::2, ::2], coarse)
        assert upsample_to(upsample, coarse, fine).shape == fine.shape
    assert all(len(given) == 1 and given[0] is coarse for given in plain.calls)
    for first, second in guided.calls:
        assert first is coarse and torch.equal(second[..., :5, :], fine)
        assert second.shape == (1, 2, 6, 8) and not second[..., 5, :].any()


def neck_and_maps(name, upsampler):
    """A neck of 8 channels, its upsampler replaced by `upsampler`, and odd maps of an image of 2 x 75 x 89."""
    torch.manual_seed(0)
    neck = build_neck(
        NeckConfig(name=name, channels=8, upsampler="nn", bifpn=BiFPNConfig(repeats=2)), USED[name]
    )
    neck.upsample = upsampler
    sides = dict(zip(WIDTHS, ((19, 23), (10, 12), (5, 6), (3, 3)), strict=True))
    return neck.eval(), {level: torch.randn(2, width, *sides[level]) for level, width in USED[name].items()}


WITHOUT_RES2 = {level: width for level, width in WIDTHS.items() if level != "res2"}
USED = {"fpn": WIDTHS, "pafpn": WIDTHS, "bifpn": WITHOUT_RES2}


@pytest.mark.parametrize("name", USED)
def test_necks_guide_by_the_map_that_the_upsampled_one_is_added_to(name):
    recorder = Recorder(guided=True)
    neck, maps = neck_and_maps(name, recorder)
    pyramid = neck(maps)
    finest = "p3" if name == "bifpn" else "p2"
    coarse, fine = recorder.calls[3 if name == "bifpn" else 2]
    lateral = neck.lateral[finest](maps[finest.replace("p", "res")])
    rows, columns = lateral.shape[-2:]
    assert pyramid[finest].shape[-2:] == (rows, columns)
    assert fine.shape[-2:] == tuple(2 * side for side in coarse.shape[-2:])
    torch.testing.assert_close(fine[..., :rows, :columns], lateral)


@pytest.mark.parametrize("upsampler", ["sapa", "freqfusion", "fade"])
@pytest.mark.parametrize("name", USED)
def test_guided_ones_train_in_every_neck(name, upsampler):
    neck, maps = neck_and_maps(name, build_upsampler(upsampler, 8))
    sum(x.square().mean() for x in neck.train()(maps).values()).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in neck.upsample.parameters())


def naive_sapa(coarse, fine, state):
    """The paper's section 3: kernels from similarities to the 5x5 pixels around, whose outside is zero."""

    def embedded(pixel, norm, linear):
        centred = pixel - pixel.mean()
        normed = centred / np.sqrt(np.square(centred).mean() + 1e-5)
        normed = normed * state[f"{norm}.weight"] + state[f"{norm}.bias"]
        return state[f"{linear}.weight"] @ normed + state[f"{linear}.bias"]

    height, width = coarse.shape[1:]
    out = np.zeros((len(coarse), 2 * height, 2 * width))
    for i, j in np.ndindex(out.shape[1:]):
        query = embedded(fine[:, i, j], "norm_fine", "query")
        similarities, values = np.zeros(25), np.zeros((25, len(coarse)))
        for tap in range(25):
            y, z = i // 2 + tap // 5 - 2, j // 2 + tap % 5 - 2
            if 0 <= y < height and 0 <= z < width:
                similarities[tap] = query @ embedded(coarse[:, y, z], "norm_coarse", "key")
                values[tap] = coarse[:, y, z]
        kernel = np.exp(similarities) / np.exp(similarities).sum()
        out[:, i, j] = kernel @ values
    return out


def test_sapa_is_its_formula():
    torch.manual_seed(0)
    upsample = build_upsampler("sapa", 6).double()
    for parameter in upsample.parameters():
        nn.init.normal_(parameter, std=0.5)
    coarse, fine = torch.randn(2, 6, 3, 4).double(), torch.randn(2, 6, 6, 8).double()
    state = {name: value.numpy() for name, value in upsample.state_dict().items()}
    expected = np.stack([naive_sapa(*maps, state) for maps in zip(coarse.numpy(), fine.numpy(), strict=True)])
    for layout in (torch.contiguous_format, torch.channels_last):
        with torch.no_grad():
            actual = upsample(coarse.contiguous(memory_format=layout), fine.contiguous(memory_format=layout))
        np.testing.assert_allclose(actual.numpy(), expected, atol=1e-10)


def test_size_of_sapa_in_the_paper():
    """Two layer norms, and two linear layers to 32 channels: 0.05 M for the three of Faster R-CNN."""
    assert sum(p.numel() for p in Sapa(256).parameters()) == 2 * (2 * 256 + 256 * 32 + 32)
