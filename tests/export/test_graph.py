"""The graph that is exported, before any file format."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from srfgan.models.config import GeneratorConfig
from srfgan.models.factory import build_upsampler
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan.models.upsamplers.seam import upsample_to
from srfgan_cli.export.graph import BatchGraph, DetectorGraph, mended_pools, output_names, split_batch

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    "preset",
    [
        "mask_rcnn_r18_fpn",
        "faster_rcnn_r18_fpn",
        "cascade_mask_rcnn_r18_fpn",
        "panet_r18_pafpn",
        pytest.param("tridentnet_r18_c4", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_graph_prepares_images_as_the_detector_does(trained, pictures, preset, order):
    made = trained(preset, f"model.pixel.order={order}", "model.pixel.mean=[90.0, 120.0, 150.0]")
    for picture, found in zip(pictures, made.expected, strict=True):
        with torch.no_grad():
            outputs = DetectorGraph(made.detector)(picture)
        expected = [found.boxes, found.scores, found.labels, found.mask_probs][: len(outputs)]
        assert len(outputs) == (4 if made.detector.config.has_masks else 3)
        for ours, theirs in zip(expected, outputs, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-3)
    batch = torch.stack([pictures[0], pictures[0].flip(-1)])
    with torch.no_grad():
        outputs = BatchGraph(made.detector)(batch)
        mirrored = made.detector.detect([batch[1]])[0]
    names = output_names(made.detector.config, 2)
    assert names[-1] == "image_index"
    parts = split_batch(dict(zip(names, outputs, strict=True)), 2)
    for one, found in zip([made.expected[0], mirrored], parts, strict=True):
        torch.testing.assert_close(found["boxes"], one.boxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found["scores"], one.scores, rtol=1e-4, atol=1e-3)


class UpsampleTo(nn.Module):
    """The seam as a network of its own."""

    def __init__(self, upsample):
        super().__init__()
        self.upsample = upsample

    def forward(self, coarse, fine):
        return upsample_to(self.upsample, coarse, fine)


GENERATORS = {"srf": GeneratorConfig(), "thin": GeneratorConfig(width=4)}
OTHERS = [name for name in UPSAMPLERS if name not in GENERATORS]
LONG = ("afi", "lda_aqu", "freqfusion", "fade", "sapa")


@pytest.mark.parametrize(
    ("name", "generator"),
    [
        *(pytest.param("srf", sizes, id=name) for name, sizes in GENERATORS.items()),
        *(pytest.param(name, None, id=name, marks=[pytest.mark.slow] * (name in LONG)) for name in OTHERS),
    ],
)
def test_every_upsampler_runs_in_onnxruntime_at_any_size(name, generator):
    torch.manual_seed(0)
    network = UpsampleTo(build_upsampler(name, 8, generator)).eval()
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    given = (torch.rand(1, 8, 5, 6), torch.rand(1, 8, 9, 12))
    program = torch.onnx.export(network, given, dynamic_shapes=(sides, sides), verbose=False)
    runtime = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for height, width in ((5, 4), (18, 27)):
        maps = torch.randn(1, 8, -(-height // 2), -(-width // 2)), torch.randn(1, 8, height, width)
        with torch.no_grad():
            expected = network(*maps)
        inputs = zip(runtime.get_inputs(), maps, strict=True)
        (found,) = runtime.run(None, {given.name: x.numpy() for given, x in inputs})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


class PooledAndBack(nn.Module):
    """A step of a BiFPN: a map and, at its size again, its pooled half."""

    def __init__(self, upsample):
        super().__init__()
        self.upsample = upsample

    def forward(self, fine):
        return fine + upsample_to(self.upsample, F.max_pool2d(fine, 3, stride=2, padding=1), fine)


@pytest.mark.parametrize("traced", [(8, 9), (9, 8)])
@pytest.mark.parametrize("name", ["nn", "srf", "fade"])
def test_a_cut_traced_at_an_even_or_odd_size_runs_at_both(name, traced):
    torch.manual_seed(0)
    network = PooledAndBack(build_upsampler(name, 8, GENERATORS["thin"] if name == "srf" else None)).eval()
    sides = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    with torch.no_grad(), mended_pools():
        program = torch.export.export(network, (torch.zeros(1, 8, *traced),), dynamic_shapes=(sides,))
        for size in ((8, 9), (9, 8), (12, 14), (13, 15)):
            fine = torch.randn(1, 8, *size)
            torch.testing.assert_close(program.module()(fine), network(fine))
