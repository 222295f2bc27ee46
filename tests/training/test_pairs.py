import pytest
import torch

from srfgan.models.instance_masks import Polygons
from srfgan.models.structures import Target
from srfgan_cli.training.pairs import halve, halve_targets


def ramp(height, width):
    return (torch.arange(height * width) % 251).reshape(1, height, width).repeat(3, 1, 1).to(torch.uint8)


def test_nearest_takes_every_second_pixel():
    image = ramp(7, 10)
    (half,) = halve([image], "nn")
    assert torch.equal(half, image[:, :6:2, ::2].float())


def test_bilinear_is_the_mean_of_two_by_two():
    image = ramp(9, 7)
    (half,) = halve([image], "bilinear")
    expected = torch.nn.functional.avg_pool2d(image[None].float(), 2)[0]
    assert half.shape == (3, 4, 3)
    torch.testing.assert_close(half, expected)


def test_bicubic_weights():
    """At one half, the cubic kernel with a = -0.75 weighs four neighbours -3/32, 19/32, 19/32, -3/32."""
    image = torch.zeros(3, 16, 16)
    image[:, :, 7] = 200.0
    (half,) = halve([image], "bicubic")
    expected = torch.zeros(8)
    expected[3] = 200 * 19 / 32
    torch.testing.assert_close(half[0, 3], expected)  # and the negative lobe is clamped to black


def test_images_of_different_sizes_keep_their_order():
    sizes = [(20, 31), (9, 8)]
    halves = halve([ramp(*size) for size in sizes], "bilinear")
    assert [tuple(half.shape) for half in halves] == [(3, 10, 15), (3, 4, 4)]
    assert all(half.dtype == torch.float32 for half in halves)


@pytest.mark.parametrize("size", [(40, 60), (41, 61)])
def test_targets_halve_with_the_images(size):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    image[:, 10:20, 30:50] = 255
    outline = torch.tensor([[30.0, 10], [50, 10], [50, 20], [30, 20]]).double().numpy()
    target = Target(torch.tensor([[30.0, 10, 50, 20]]), torch.tensor([4]), [Polygons((outline,))])
    (half,) = halve([image], "bilinear")
    (scaled,) = halve_targets([target])
    x1, y1, x2, y2 = scaled.boxes[0].int().tolist()
    assert half[:, y1:y2, x1:x2].min() == 255
    assert half.sum() == half[:, y1:y2, x1:x2].sum()
    assert scaled.masks[0].parts[0].max(axis=0).tolist() == [25, 10]
    assert target.boxes[0, 0] == 30  # the original is left as it was
