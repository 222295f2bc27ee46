"""A generator `srf` of another size than the paper's: its layers, its place in configs, and its files."""

import pytest
import torch
from pydantic import ValidationError

from srfgan.models import build_detector, build_generator, build_upsampler
from srfgan.models.config import GeneratorConfig, NeckConfig, parse_model
from srfgan.models.count import cost_of
from srfgan.models.errors import InputError
from srfgan.models.weights.generator import load_generator

THIN = GeneratorConfig(width=4, blocks=2)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def saved(path, **modules):
    states = {name: module.state_dict() for name, module in modules.items()}
    torch.save({"format": "srfgan", "modules": states, "stage": "pretrain"}, path)
    return path


def test_without_a_size_it_is_the_papers():
    """The names that checkpoints have, and a first convolution of the map's own width."""
    generator = build_generator("srf", 8)
    assert list(dict(generator.named_children())) == [
        *("down", "head", "blocks", "trunk", "trunk_norm", "up", "up_norm", "tail")
    ]
    assert not generator.down.state_dict() and len(generator.blocks) == 5
    assert generator.head.weight.shape == (8, 8, 3, 3)


def test_a_thin_one_has_every_gradient_and_ends_in_the_maps_channels():
    torch.manual_seed(0)
    thin = build_generator("srf", 8, THIN).double()
    for parameter in thin.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    maps = torch.randn(2, 8, 3, 5, dtype=torch.float64, requires_grad=True)
    assert thin(maps).shape == (2, 8, 6, 10)
    assert torch.autograd.gradcheck(thin.eval(), maps, fast_mode=True)
    thin.train()(maps).square().sum().backward()
    # A norm in training mode takes the bias of what is before it away; only `down` and `head` have one.
    assert all(parameter.grad.any() for parameter in thin.parameters())
    inside = (2 * 2 + 2) * 4 * 4 * 9 + 36 * 4 * 4
    norms, biases = (2 * 2 + 2) * 2 * 4, 4 + 4 + 8
    assert parameters(thin) == inside + 2 * 8 * 4 + norms + biases


def test_the_width_is_a_number_of_channels_or_their_share():
    assert GeneratorConfig(width=0.25).sizes(256) == {"width": 64}
    assert GeneratorConfig(width=0.01, blocks=3).sizes(16) == {"width": 1, "blocks": 3}
    assert GeneratorConfig(width=64).sizes(256) == {"width": 64}
    assert GeneratorConfig().sizes(256) == {}
    for wrong in (0, -1, 1.0, 2.5, 0.0, True, "64", 8193):
        with pytest.raises(
            ValidationError, match="channels, from 1 to 8192, or a share of the maps' between"
        ):
            GeneratorConfig(width=wrong)


@pytest.mark.parametrize("upsampler", ["afi", "nn", "carafe"])
def test_only_srf_has_a_size(upsampler):
    with pytest.raises(
        ValidationError, match=f"generator is the size of the upsampler 'srf', got .*'{upsampler}'"
    ):
        NeckConfig(upsampler=upsampler, generator=THIN)
    with pytest.raises(InputError, match=f"'{upsampler}' has no size to choose; 'srf' has"):
        build_upsampler(upsampler, 8, THIN)
    with pytest.raises(InputError, match="takes a GeneratorConfig, as GeneratorConfig"):
        build_upsampler("srf", 8, 64)


def test_in_a_detector_it_costs_a_sixteenth_and_its_plain_twin_has_none():
    base = {"backbone": {"name": "r10"}, "neck": {"channels": 64}}
    configs = {
        size: parse_model(
            {**base, "neck": {"channels": 64, "generator": size and GeneratorConfig(width=size)}}
        )
        for size in (None, 0.25)
    }
    plain = configs[0.25].plain()
    assert plain == configs[None].plain() and plain.neck.upsampler == "nn"
    neck = {name: cost_of(config).neck for name, config in {**configs, "plain": plain}.items()}
    assert 0.05 < (neck[0.25] - neck["plain"]) / (neck[None] - neck["plain"]) < 0.08


@pytest.mark.parametrize(("body", "size"), [("srf", None), ("srf", THIN), ("afi", None)])
def test_a_file_tells_which_generator_it_holds(tmp_path, body, size):
    generator = build_generator(body, 8, size)
    alone = saved(tmp_path / "alone.pt", generator=generator)
    neck = {"channels": 8, "upsampler": body, "generator": size}
    detector = build_detector(parse_model({"backbone": {"name": "r10"}, "neck": neck}))
    detector.neck.upsample.load_state_dict(generator.state_dict())
    for path in (alone, saved(tmp_path / "detector.pt", detector=detector)):
        found, loaded = load_generator(path, 8)
        assert found == body
        for name, value in generator.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name
    with pytest.raises(
        InputError, match=f"alone.pt holds the generator '{body}' of 8 channels.* have 16 channels"
    ):
        load_generator(alone, 16)


def test_a_file_without_a_whole_generator_is_refused(tmp_path):
    plain = saved(tmp_path / "plain.pt", detector=build_upsampler("carafe", 8))
    with pytest.raises(
        InputError, match=r"plain\.pt holds no generator: give a stage-1 result, or a detector"
    ):
        load_generator(plain, 8)
    part = build_generator("srf", 8, THIN)
    del part.up
    with pytest.raises(InputError, match=r"part\.pt does not fit this SRFGenerator"):
        load_generator(saved(tmp_path / "part.pt", generator=part), 8)
