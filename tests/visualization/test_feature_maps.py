"""The panel's maps are those of the swapped methods, and the detector is left as it was."""

import pytest
import torch
from detector_configs import small_mask_rcnn

from srfgan.models.errors import InputError
from srfgan.models.factory import build_detector, build_generator
from srfgan_cli.visualization.feature_maps import level_maps
from srfgan_cli.visualization.maps import p2_panel
from srfgan_cli.visualization.sheet import Sheet


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return build_detector(small_mask_rcnn("srf"))


@pytest.fixture(scope="module")
def image():
    return torch.randint(0, 256, (3, 90, 130), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_each_method_gives_the_map_of_a_detector_built_with_it(detector, image):
    shown = level_maps(detector, image, ["nn", "bilinear", "srf"])
    assert list(shown.maps) == ["nn", "bilinear", "srf"] and shown.untrained == ()
    for method, features in shown.maps.items():
        config = detector.config.model_copy(
            update={"neck": detector.config.neck.model_copy(update={"upsampler": method})}
        )
        other = build_detector(config).eval()
        other.load_state_dict(detector.state_dict(), strict=method == "srf")
        batch, _ = other.preprocess([image])
        with torch.no_grad():
            expected = other.pyramid(batch)["p2"][0, :, :23, :33]  # 90 / 4 and 130 / 4, without the padding
        assert torch.allclose(features, expected, atol=1e-5), method


def test_the_detector_is_left_as_it_was(detector, image):
    detector.train()
    detector.backbone.eval()
    upsample, weights = detector.neck.upsample, {k: v.clone() for k, v in detector.state_dict().items()}
    level_maps(detector, image, ["nn", "afi", "srf"], level="p3")
    assert detector.neck.upsample is upsample
    assert detector.training and upsample.training and not detector.backbone.training
    assert all(torch.equal(weights[name], value) for name, value in detector.state_dict().items())


def test_generators_without_weights_are_named_and_always_the_same(detector, image):
    first, second = (level_maps(detector, image, ["afi", "nn"]) for _ in range(2))
    assert first.untrained == ("afi",)
    assert torch.equal(first.maps["afi"], second.maps["afi"])
    generator = build_generator("afi", 16)
    given = level_maps(detector, image, ["afi"], generators={"afi": generator})
    assert given.untrained == ()
    assert not torch.equal(given.maps["afi"], first.maps["afi"])
    assert level_maps(detector, image, ["carafe", "bicubic", "sapa"]).untrained == ("carafe", "sapa")


@pytest.mark.parametrize(
    ("methods", "level", "message"),
    [
        (["nn", "magic"], "p2", "unknown method 'magic'; choose from nn, bilinear, bicubic, srf, afi"),
        ([], "p2", "no method given; choose from nn"),
        (["nn", "nn"], "p2", "names a method twice"),
        (["nn"], "p9", "no pyramid level 'p9' in this detector; choose from p2, p3, p4, p5, p6"),
    ],
)
def test_unknown_methods_and_levels_are_refused(detector, image, methods, level, message):
    with pytest.raises(InputError, match=message):
        level_maps(detector, image, methods, level=level)


def test_the_panel_shows_all_maps_on_one_scale(image):
    """A flat map must look flat, the same value the same colour in every panel, equal maps no difference."""
    flat, ramp = torch.ones(4, 20, 30), torch.linspace(0, 2, 30).expand(4, 20, 30)
    panel = p2_panel(image, {"nn": flat, "bilinear": flat.clone(), "srf": -ramp})
    assert panel.mode == "RGB" and panel.width > 3 * panel.height / 2
    alone = p2_panel(image, {"nn": flat})
    assert panel.width > 2 * alone.width - 200 and panel.height > alone.height
    width = 3.6 * 130
    columns = [round(13 + (column + 0.5) * (width + 13)) for column in range(4)]
    row = panel.height // 4 + 20
    flat_colour, same_colour = panel.getpixel((columns[1], row)), panel.getpixel((columns[2], row))
    assert flat_colour == same_colour
    middle = panel.getpixel((columns[3], row))
    assert max(abs(a - b) for a, b in zip(middle, flat_colour, strict=True)) < 12, (
        "strength 1 in the middle of 0..2"
    )
    no_difference = panel.getpixel((columns[2], panel.height - 60))
    assert min(no_difference) > 240, "white: bilinear equals nn"
    assert min(panel.getpixel((columns[3] - 200, panel.height - 60))) < 200


def test_a_sheet_of_a_narrow_strip_has_a_limit():
    for aspect in (1 / 8, 0.5, 4 / 3, 30):
        sheet = Sheet(4, 2, aspect, 0)
        assert sheet.height == pytest.approx(sheet.width / aspect), "in the image's own shape"
    assert Sheet(4, 2, 1 / 3000, 0).size == Sheet(4, 2, 1 / 8, 0).size


def test_constant_and_single_pixel_maps_are_drawn(image):
    assert p2_panel(
        image, {"nn": torch.zeros(3, 1, 1), "srf": torch.zeros(3, 1, 1)}, level="p6", note="x " * 200
    )
