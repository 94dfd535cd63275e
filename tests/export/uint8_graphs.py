"""Small ONNX graphs in the form that bifocus exports: bytes in, bytes out."""

from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGES = ("minus", "plus", "fused")
SHAPE: list[str | int | None] = ["N", "H", "W", 3]


def two_shot_graph(
    core: Literal["float16", "float32", "int8"] = "float16",
    *,
    transposes_bytes: bool = False,
    has_int32_bias: bool = False,
    image_type: int = TensorProto.UINT8,
) -> bytes:
    """Return fused = minus + conv(relu(conv(minus, plus))), in the types named.

    `transposes_bytes` and `has_int32_bias` are two forms that TensorRT refuses.
    """
    graph = _Graph()
    shots = [graph.planes(name, transposes_bytes, image_type) for name in IMAGES[:2]]
    half = core == "float16"
    features = graph.add("Concat", *shots, axis=1)
    if half:
        features = graph.add("Cast", features, to=TensorProto.FLOAT16)
    for n_in, n_out, is_last in ((6, 8, False), (8, 3, True)):
        if core == "int8":
            features = graph.round_trip(features)
        features = graph.convolution(
            features, n_in, n_out, core=core, has_int32_bias=has_int32_bias
        )
        if not is_last:
            features = graph.add("Relu", features)
    if half:
        features = graph.add("Cast", features, to=TensorProto.FLOAT)
    graph.picture(graph.add("Add", shots[0], features), image_type)
    return graph.bytes()


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.random = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def planes(self, name: str, transposes_bytes: bool, image_type: int) -> str:
        """Return the input as float planes in 0..1."""
        self.inputs.append(helper.make_tensor_value_info(name, image_type, SHAPE))
        order = [0, 3, 1, 2]
        if transposes_bytes:
            turned = self.add("Transpose", name, perm=order)
            planes = self.add("Cast", turned, to=TensorProto.FLOAT)
        else:
            wide = self.add("Cast", name, to=TensorProto.FLOAT)
            planes = self.add("Transpose", wide, perm=order)
        return self.add("Mul", planes, self.constant(np.float32(1 / 255)))

    def convolution(
        self, features: str, n_in: int, n_out: int, *, core: str, has_int32_bias: bool
    ) -> str:
        weights = self.random.normal(0, 0.1, (n_out, n_in, 3, 3)).astype(np.float32)
        if core == "int8":
            levels = np.clip(np.rint(weights * 256), -127, 127).astype(np.int8)
            zero = self.constant(np.zeros(n_out, np.int8))
            scale = self.constant(np.full(n_out, 1 / 256, np.float32))
            kernel = self.add(
                "DequantizeLinear", self.constant(levels), scale, zero, axis=0
            )
            bias = self._bias(n_out, has_int32_bias)
        else:
            kind = np.float16 if core == "float16" else np.float32
            kernel = self.constant(weights.astype(kind))
            bias = self.constant(np.zeros(n_out, kind))
        return self.add("Conv", features, kernel, bias, pads=[1, 1, 1, 1])

    def _bias(self, n_out: int, has_int32_bias: bool) -> str:
        if not has_int32_bias:
            return self.constant(np.zeros(n_out, np.float32))
        # What ONNX Runtime's quantiser makes unless told not to.
        levels = self.constant(np.zeros(n_out, np.int32))
        scale = self.constant(np.full(n_out, 1e-4, np.float32))
        zero = self.constant(np.zeros(n_out, np.int32))
        return self.add("DequantizeLinear", levels, scale, zero, axis=0)

    def round_trip(self, features: str) -> str:
        scale = self.constant(np.float32(1 / 127))
        zero = self.constant(np.int8(0))
        levels = self.add("QuantizeLinear", features, scale, zero)
        return self.add("DequantizeLinear", levels, scale, zero)

    def picture(self, planes: str, image_type: int) -> None:
        scaled = self.add("Mul", planes, self.constant(np.float32(255)))
        rounded = self.add("Add", scaled, self.constant(np.float32(0.5)))
        low, high = self.constant(np.float32(0)), self.constant(np.float32(255))
        clipped = self.add("Clip", rounded, low, high)
        turned = self.add("Transpose", clipped, perm=[0, 2, 3, 1])
        self.nodes.append(
            helper.make_node("Cast", [turned], ["fused"], name="out", to=image_type)
        )
        self.outputs.append(helper.make_tensor_value_info("fused", image_type, SHAPE))

    def bytes(self) -> bytes:
        graph = helper.make_graph(
            self.nodes, "two_shots", self.inputs, self.outputs, self.constants
        )
        opset = helper.make_opsetid("", 18)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString()
        return content
