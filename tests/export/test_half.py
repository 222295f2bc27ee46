"""Float16 networks in a float32 graph: `srfgan export --half`."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

onnx = pytest.importorskip("onnx")
ir = pytest.importorskip("onnx_ir")
onnxruntime = pytest.importorskip("onnxruntime")

from srfgan_cli.export.half import to_half  # noqa: E402

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


class Small(nn.Module):
    """What detectors do: a norm and weights that two levels share, a sum of maps, and boxes in large pixels."""

    def __init__(self):
        super().__init__()
        self.shared, self.norm = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.lateral, self.sides = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 4, 1)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, image):
        fine, coarse = (torch.relu(self.norm(self.shared(x))) for x in (image, F.max_pool2d(image, 2)))
        joined = self.lateral(fine) + F.interpolate(self.lateral(coarse), scale_factor=2.0)
        sides = self.sides(joined).flatten(2)
        return sides * 1000 + 3000.03, sides.sigmoid()


@pytest.fixture(scope="module")
def graphs():
    """The same network twice: its image, and ONNX as exported and as changed."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 20)
    model = torch.onnx.export(Small().eval(), (image,), dynamo=True, verbose=False).model
    whole = ir.to_proto(model)
    to_half(model)
    return image.numpy(), whole, ir.to_proto(model)


def run(model, image):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})


def test_it_finds_the_same_but_for_rounding_in_half_the_bytes(graphs):
    image, whole, half = graphs
    for expected, found in zip(run(whole, image), run(half, image), strict=True):
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-3 * np.abs(expected - expected.mean()).max()
    weights = [sum(len(x.raw_data) for x in model.graph.initializer) for model in (whole, half)]
    assert weights[1] <= 0.52 * weights[0]


def test_networks_are_float16_and_arithmetic_of_boxes_float32(graphs):
    _, _, half = graphs
    onnx.checker.check_model(half, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(half, strict_mode=True).graph
    types = {x.name: x.type.tensor_type.elem_type for x in (*inferred.value_info, *inferred.output)}
    by_operator = {
        kind: {types[node.output[0]] for node in half.graph.node if node.op_type == kind}
        for kind in ("Conv", "Relu", "Resize", "Mul", "Sigmoid", "BatchNormalization")
    }
    float16, float32 = {HALF}, {FLOAT}
    assert by_operator == {
        "Conv": float16,
        "Relu": float16,
        "Resize": float16,
        "Mul": float32,
        "Sigmoid": float32,
        "BatchNormalization": set(),
    }
    to = [node.attribute[0].i for node in half.graph.node if node.op_type == "Cast"]
    assert sorted(to) == [FLOAT, HALF, HALF]  # the image, its coarse copy, and the sides
