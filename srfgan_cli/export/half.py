"""A graph whose networks compute in float16, and whose boxes, scores and choices stay float32.

What PyTorch's autocast does with half precision, done to a finished ONNX graph: convolutions and matrix products with
weights take and give float16, with them what only passes their maps on. All else, from anchors to NMS, gets float32.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer

_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_PASSING = {"Relu", "LeakyRelu", "Add", "MaxPool", "Resize"}
"""Where all maps that they take are float16 already."""
_OF_MAPS = {"Resize": 1}
"""How many inputs of an operator are maps; its others, as the factors of a Resize, stay as they are. Else all."""
_NO_LIMIT = 2**40


def to_half(model: ir.Model) -> None:
    """Change a float32 graph to one that computes its networks in float16, with weights in half the bytes.

    Inputs and outputs stay float32.

    Args:
        model: changed in place.
    """
    graph = model.graph
    _unshare_weights(graph)
    # Folds norms into weights, but none into weights that are shared, as the generator's are by all levels.
    optimizer.optimize_ir(model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    common.DeduplicateHashedInitializersPass()(model)
    halves = _Halves(graph)
    for node in list(graph):
        passing = node.op_type in _PASSING and all(halves.has(x) for x in _maps(node))
        if passing or _has_weights(node):
            halves.use_in(node)
        else:
            halves.avoid_in(node)
    for at, output in enumerate(graph.outputs):
        graph.outputs[at] = halves.full(output)
    common.RemoveUnusedNodesPass()(model)


def _unshare_weights(graph: ir.Graph) -> None:
    """Give each convolution and product weights and a bias of its own."""
    for node in filter(_has_weights, graph):
        for at, value in enumerate(node.inputs):
            if value is not None and value.is_initializer() and len(value.uses()) > 1:
                node.replace_input_with(at, _constant(graph, value.const_value, f"{value.name}.{node.name}"))


def _has_weights(node: ir.Node) -> bool:
    """Whether it is a convolution or product with constants."""
    return node.op_type in _PRODUCTS and node.inputs[1] is not None and node.inputs[1].is_initializer()


def _constant(graph: ir.Graph, tensor: ir.TensorProtocol | None, name: str) -> ir.Value:
    assert tensor is not None
    shape = ir.Shape(tensor.numpy().shape)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _maps(node: ir.Node) -> list[ir.Value]:
    given = node.inputs[: _OF_MAPS.get(node.op_type)]
    return [x for x in given if x is not None]


class _Halves:
    """The values of a graph that are float16, and the other precision of those that both are asked of."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._computed: set[ir.Value] = set()
        self._halved: dict[ir.Value, ir.Value] = {}
        self._widened: dict[ir.Value, ir.Value] = {}

    def has(self, value: ir.Value) -> bool:
        """Whether it is computed in float16."""
        return value in self._computed

    def use_in(self, node: ir.Node) -> None:
        """Let a node compute in float16."""
        for at, value in enumerate(node.inputs[: _OF_MAPS.get(node.op_type)]):
            if value is not None and not self.has(value):
                node.replace_input_with(at, self._half(value))
        (output,) = node.outputs
        output.dtype = ir.DataType.FLOAT16
        self._computed.add(output)

    def avoid_in(self, node: ir.Node) -> None:
        """Let a node compute in what it did before."""
        for at, value in enumerate(node.inputs):
            if value is not None:
                node.replace_input_with(at, self.full(value))

    def full(self, value: ir.Value) -> ir.Value:
        """`value` as float32 if it is float16, else itself."""
        if not self.has(value):
            return value
        if value not in self._widened:
            self._widened[value] = self._cast(value, ir.DataType.FLOAT)
        return self._widened[value]

    def _half(self, value: ir.Value) -> ir.Value:
        if value not in self._halved:
            constant = value.is_initializer()
            self._halved[value] = self._rounded(value) if constant else self._cast(value, ir.DataType.FLOAT16)
        return self._halved[value]

    def _rounded(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None
        rounded = ir.Tensor(value.const_value.numpy().astype(np.float16))
        return _constant(self._graph, rounded, f"{value.name}.half")

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        cast = ir.node("Cast", [value], {"to": dtype})
        (output,) = cast.outputs
        output.name, output.dtype, output.shape = f"{value.name}.{dtype.name.lower()}", dtype, value.shape
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], cast)
        else:
            self._graph.insert_after(producer, cast)
        return output
