"""INT8: which convolutions can do with 8 bits, measured, and the graph that says so.

Static quantisation in the QDQ form. Ranges are the extremes over pictures like those of
training: clipping costs more than coarse steps here. Weights are symmetric, per output
channel. Which convolutions become INT8 is measured, not guessed: each is quantised
alone, the squared error it adds to the picture is set against the multiply-adds it
saves, and the cheapest in error are taken until the sum reaches `NOISE_BUDGET`. Stem
and head always stay as they are.

A runtime fuses one form only, so there are three, see `FORMS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData

from bifocus.errors import ConfigError, EngineError
from bifocus.export.onnx_probe import Feeds, levels_tensor, watch_tensors

Runtime = Literal["onnxruntime", "openvino", "tensorrt"]
Range = tuple[float, float]

# Mean squared error, in squared grey levels, that quantisation may add to the picture:
# it costs one of 45.6 dB, the best network's so far, 0.039 dB; see docs/export.md.
NOISE_BUDGET = 0.016
# Pictures on which each convolution's error is measured; ranges take all of them.
_N_NOISE_PICTURES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How one runtime wants its QDQ graph.

    Attributes
    ----------
    activations
        Type of the quantised activations.
    is_symmetric
        Zero is at 0, and biases stay as they are: TensorRT takes nothing else.
    has_outputs
        A convolution's output is quantised too: without that ONNX Runtime computes it
        in float32. It costs accuracy, so that others go without.
    """

    activations: Any  # onnxruntime's enumeration has no types
    is_symmetric: bool
    has_outputs: bool


FORMS: Final[Mapping[Runtime, Form]] = {
    "onnxruntime": Form(
        activations=QuantType.QUInt8, is_symmetric=False, has_outputs=True
    ),
    "openvino": Form(
        activations=QuantType.QUInt8, is_symmetric=False, has_outputs=False
    ),
    "tensorrt": Form(activations=QuantType.QInt8, is_symmetric=True, has_outputs=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Plan:
    """What calibration found, by the name of each convolution's weights.

    Names of weights are those of the network, so that a plan made on a graph of free
    size fits the graphs of fixed size.

    Attributes
    ----------
    inputs, outputs
        Lowest and highest value over the calibration pictures.
    noise
        Mean squared error in squared grey levels that the convolution adds alone.
    chosen
        The convolutions that become INT8.
    """

    inputs: Mapping[str, Range]
    outputs: Mapping[str, Range]
    noise: Mapping[str, float]
    chosen: frozenset[str]


def plan_int8(
    model: onnx.ModelProto,
    pictures: Sequence[Feeds],
    runtime: Runtime,
    *,
    budget: float = NOISE_BUDGET,
) -> Int8Plan:
    """Measure ranges and errors, and choose the convolutions.

    Parameters
    ----------
    model
        The float32 graph, of a size that takes the pictures.
    pictures
        Calibration pictures by input name, uint8 (N, H, W, 3), like those the network
        was trained on, and never those it is judged on.
    runtime
        Who is to run it.
    budget
        Squared grey levels that all chosen ones may add together.

    Raises
    ------
    ConfigError
        If there are no pictures.
    EngineError
        If nothing can be quantised within the budget.
    """
    if not pictures:
        raise ConfigError("INT8 needs pictures to calibrate with; found none")
    convs = _convolutions(model)
    inputs, outputs, macs = _measure_ranges(model, convs, pictures)
    everything = Int8Plan(
        inputs=inputs, outputs=outputs, noise={}, chosen=frozenset(convs)
    )
    sample = pictures[:: max(1, len(pictures) // _N_NOISE_PICTURES)]
    expected = _levels(model, sample)
    names = list(convs)[1:-1]  # stem and head stay
    noise = {}
    for name in names:
        alone = quantise(model, everything, runtime, only=frozenset((name,)))
        noise[name] = _mean_square(_levels(alone, sample), expected)
    chosen: set[str] = set()
    total = 0.0
    for name in sorted(names, key=lambda name: noise[name] / macs[name]):
        if total + noise[name] <= budget:
            chosen.add(name)
            total += noise[name]
    if not chosen:
        raise EngineError(
            f"no convolution stays within {budget} squared levels in INT8: the "
            f"smallest error is {min(noise.values(), default=np.inf):.3g}; take fp32"
        )
    return Int8Plan(
        inputs=inputs, outputs=outputs, noise=noise, chosen=frozenset(chosen)
    )


def quantise(
    model: onnx.ModelProto,
    plan: Int8Plan,
    runtime: Runtime,
    *,
    only: frozenset[str] | None = None,
) -> onnx.ModelProto:
    """Return the graph with the plan's convolutions, or `only` these, in INT8.

    The graph may be of another size than the plan's, and in half precision (from
    opset 19 on): what is not quantised stays as it is.
    """
    form = FORMS[runtime]
    convs = _convolutions(model)
    kept = plan.chosen if only is None else only
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    options: dict[str, Any] = {
        "ActivationSymmetric": form.is_symmetric,
        "WeightSymmetric": True,
    }
    if form.is_symmetric:
        options["QuantizeBias"] = False
    if not form.has_outputs:
        options["OpTypesToExcludeOutputQuantization"] = ["Conv"]
    quantizer = QDQQuantizer(
        quantised,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=form.activations,
        tensors_range=_tensor_ranges(model, convs, plan),
        nodes_to_quantize=[convs[name].name for name in convs if name in kept],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    return result


def _convolutions(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return the convolutions by the name of their weights, in graph order."""
    # A network's shared weights meet several nodes: the first one counts for all, as
    # ranges are joined and ONNX Runtime quantises the weights once.
    return {
        f"{node.input[1]}#{number}": node
        for number, node in enumerate(
            node for node in model.graph.node if node.op_type == "Conv"
        )
    }


def _measure_ranges(
    model: onnx.ModelProto,
    convs: Mapping[str, onnx.NodeProto],
    pictures: Sequence[Feeds],
) -> tuple[dict[str, Range], dict[str, Range], dict[str, int]]:
    tensors = dict.fromkeys(
        name for node in convs.values() for name in (node.input[0], node.output[0])
    )
    found: dict[str, Range] = {}
    sizes: dict[str, int] = {}
    for values in watch_tensors(model, list(tensors), pictures):
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise EngineError(f"tensor {name} holds NaN or infinity; check weights")
            low, high = found.get(name, (0.0, 0.0))
            found[name] = (min(low, float(value.min())), max(high, float(value.max())))
            sizes[name] = value[0, 0].size
    weights = {one.name: one.dims for one in model.graph.initializer}
    return (
        {name: found[node.input[0]] for name, node in convs.items()},
        {name: found[node.output[0]] for name, node in convs.items()},
        {
            name: int(np.prod(weights[node.input[1]])) * sizes[node.output[0]]
            for name, node in convs.items()
        },
    )


def _tensor_ranges(
    model: onnx.ModelProto, convs: Mapping[str, onnx.NodeProto], plan: Int8Plan
) -> TensorsData:
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    ranges: dict[str, TensorData] = {}
    for name, node in convs.items():
        kind = onnx.helper.tensor_dtype_to_np_dtype(kinds[node.input[1]])
        for tensor, (low, high) in (
            (node.input[0], plan.inputs[name]),
            (node.output[0], plan.outputs[name]),
        ):
            ranges[tensor] = TensorData(
                lowest=np.array([low], dtype=kind), highest=np.array([high], dtype=kind)
            )
    return TensorsData(CalibrationMethod.MinMax, ranges)


def _levels(
    model: onnx.ModelProto, pictures: Sequence[Feeds]
) -> list[npt.NDArray[np.float32]]:
    name = levels_tensor(model)
    return [
        np.clip(values[name], 0, 255)
        for values in watch_tensors(model, [name], pictures)
    ]


def _mean_square(
    values: Sequence[npt.NDArray[np.float32]],
    expected: Sequence[npt.NDArray[np.float32]],
) -> float:
    return float(
        np.mean(
            [np.square(a - b).mean() for a, b in zip(values, expected, strict=True)]
        )
    )
