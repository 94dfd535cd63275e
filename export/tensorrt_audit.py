"""What a TensorRT network or engine really computes in, against what it claims.

Since TensorRT 11 a builder flag that asks for FP16 no longer exists, and code that set
one quietly got FP32 engines (rf-detr issue 1453: 112 MB instead of 60). So the types of
the convolutions are read twice: from the network before the build, where every version
tells them alike, and from the engine's inspector after it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bifocus.engine_manifest import Precision
from bifocus.errors import EngineError
from bifocus.tensorrt_api import ICudaEngine, ILayer, INetworkDefinition, TensorRT
from bifocus.tensorrt_module import full_name

_WANTED = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
_HEAVY = ("CONVOLUTION", "DECONVOLUTION")
_TYPE_NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
# How the inspector spells a tensor's type: "Channel major FP16 format where ..." up to
# TensorRT 10, "Half" in newer ones.
_INSPECTOR_TYPES = (
    (re.compile(r"bf16|bfloat", re.IGNORECASE), "bfloat16"),
    (re.compile(r"fp16|half", re.IGNORECASE), "float16"),
    (re.compile(r"uint8", re.IGNORECASE), "uint8"),
    (re.compile(r"int8", re.IGNORECASE), "int8"),
    (re.compile(r"int32|int64", re.IGNORECASE), "int"),
    (re.compile(r"fp32|float", re.IGNORECASE), "float32"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a graph is said to be.

    Attributes
    ----------
    precision
        Of the convolutions.
    n_other
        Convolutions that are meant to be of another type: the stem and the head of an
        int8 network, those of physics inside the graph.
    images
        Names of the inputs and outputs that must be uint8.
    """

    precision: Precision
    n_other: int = 0
    images: tuple[str, ...] = ()


def audit_network(
    trt: TensorRT, network: INetworkDefinition, claim: Claim
) -> dict[str, int]:
    """Return how many convolutions compute in what, or refuse the network.

    Parameters
    ----------
    trt
        The module that parsed it.
    network
        A parsed, strongly typed network.
    claim
        What it is said to be.

    Returns
    -------
    dict[str, int]
        As ``{"CONVOLUTION float16": 18}``; "int8" where both the picture and the
        weights come out of a dequantisation.

    Raises
    ------
    EngineError
        If an image is not uint8, there is no convolution, or more of them are of
        another type than the claim allows.
    """
    check_images(_image_types(network), claim)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    dequantised = {
        layer.get_output(0).name for layer in layers if layer.type.name == "DEQUANTIZE"
    }
    found = Counter(
        f"{layer.type.name} {_layer_type(layer, dequantised)}"
        for layer in layers
        if layer.type.name in _HEAVY
    )
    check_claim(found, claim, where=f"network, {full_name(trt)}")
    return dict(found)


def _image_types(network: INetworkDefinition) -> dict[str, str]:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    tensors += [network.get_output(i) for i in range(network.num_outputs)]
    return {tensor.name: tensor.dtype.name for tensor in tensors}


def _layer_type(layer: ILayer, dequantised: set[str]) -> str:
    # Input 0 is the picture, 1 the weights where they are a tensor of the graph.
    if layer.num_inputs > 1 and all(
        layer.get_input(i).name in dequantised for i in (0, 1)
    ):
        return "int8"
    name = layer.get_output(0).dtype.name
    return _TYPE_NAMES.get(name, name.lower())


def check_images(types: dict[str, str], claim: Claim) -> None:
    """Refuse images that are not bytes.

    Raises
    ------
    EngineError
        If one is missing or of another type.
    """
    for name in claim.images:
        if types.get(name) != "UINT8":
            msg = (
                f"'{name}' is {types.get(name, 'missing')} in the graph, and must be "
                f"UINT8; the graph has {', '.join(types)}"
            )
            raise EngineError(msg)


def check_claim(found: Counter[str], claim: Claim, *, where: str) -> None:
    """Refuse what computes in other types than it claims.

    Raises
    ------
    EngineError
        With the numbers found and allowed.
    """
    if not found:
        msg = f"{where}: no convolution in it; this is not a network of bifocus"
        raise EngineError(msg)
    wanted = _WANTED[claim.precision]
    kinds = _by_type(found)
    total = sum(kinds.values())
    if total - kinds[wanted] > claim.n_other:
        counts = ", ".join(f"{count} in {kind}" for kind, count in kinds.items())
        msg = (
            f"{where}: it claims {claim.precision}, but of {total} convolutions "
            f"{counts}; at most {claim.n_other} may be in another type than {wanted}. "
            f"Export it again with --precision {claim.precision}"
        )
        raise EngineError(msg)


def _by_type(found: Counter[str]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for key, count in found.items():
        kinds[key.split(" ", 1)[1]] += count
    return kinds


def audit_engine(trt: TensorRT, engine: ICudaEngine, claim: Claim) -> dict[str, int]:
    """Return how many convolution kernels compute in what, or refuse the engine.

    Parameters
    ----------
    trt
        The module that made it.
    engine
        Deserialised; built with detailed profiling verbosity.
    claim
        What it is said to be.

    Raises
    ------
    EngineError
        As `audit_network`; or if nothing in the engine is of the claimed type.
    """
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    check_images({name: engine.get_tensor_dtype(name).name for name in names}, claim)
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return audit_inspection(text, claim, names, where=f"engine, {full_name(trt)}")


def audit_inspection(
    text: str, claim: Claim, names: Iterable[str], *, where: str
) -> dict[str, int]:
    """Judge the inspector's JSON, of TensorRT 10 or 11; see `audit_engine`."""
    document = _parse(text, where)
    listed = io_names(document)
    if set(listed) != set(names):
        msg = f"{where}: the inspector lists {listed}, the engine {sorted(names)}"
        raise EngineError(msg)
    layers = [layer for layer in document["Layers"] if isinstance(layer, dict)]
    if not layers:
        msg = f"{where}: no details in it; it was not built by bifocus export"
        raise EngineError(msg)
    kernels = Counter(
        f"kernel {_kernel_type(layer)}" for layer in layers if _is_convolution(layer)
    )
    if kernels:
        check_kernels(kernels, claim, where=where)
        return dict(kernels)
    # A whole network can be one fused kernel; then its tensors tell what they can.
    types = Counter(f"layer {_kernel_type(layer)}" for layer in layers)
    check_kernels(types, claim, where=where)
    return dict(types)


def check_kernels(found: Counter[str], claim: Claim, *, where: str) -> None:
    """Refuse an engine without the claimed type, or with too much float32.

    Raises
    ------
    EngineError
        With what was found.
    """
    wanted = _WANTED[claim.precision]
    kinds = _by_type(found)
    n_float32 = kinds["float32"] if wanted != "float32" else 0
    is_fused = any(key.startswith("layer") for key in found)
    if not kinds[wanted] or (n_float32 > claim.n_other and not is_fused):
        msg = (
            f"{where}: it claims {claim.precision}, but its kernels are "
            f"{dict(kinds)}, and at most {claim.n_other} may be in float32; it is not "
            "used"
        )
        raise EngineError(msg)


def io_names(document: dict[str, Any]) -> list[str]:
    """Return the inputs' and outputs' names: `Bindings` to 10.x, then `I/O Tensors`."""
    if "I/O Tensors" in document:
        return [tensor["Name"] for tensor in document["I/O Tensors"]]
    return list(document.get("Bindings", []))


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        msg = f"{where}: its inspector gives no JSON: {error}"
        raise EngineError(msg) from error
    if not isinstance(document, dict) or "Layers" not in document:
        msg = f"{where}: its inspector gives no layers"
        raise EngineError(msg)
    return document


def _is_convolution(layer: dict[str, Any]) -> bool:
    words = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"
    return "conv" in words.lower()


def _kernel_type(layer: dict[str, Any]) -> str:
    """Return the narrowest type among a kernel's tensors: it must compute in that.

    A cast may be fused to either side, so that one wide tensor proves nothing.
    """
    tensors = [*layer.get("Inputs", []), *layer.get("Outputs", [])]
    kinds = {_tensor_type(tensor) for tensor in tensors if isinstance(tensor, dict)}
    for kind in ("int8", "float16", "bfloat16", "float32"):
        if kind in kinds:
            return kind
    return "other"


def _tensor_type(tensor: dict[str, Any]) -> str:
    """Return the type of a tensor of 10.x ("Format/Datatype") or of 11 (two keys)."""
    keys = ("Datatype", "DataType", "Format/Datatype", "Format")
    text = next((str(tensor[key]) for key in keys if tensor.get(key)), "")
    for pattern, kind in _INSPECTOR_TYPES:
        if pattern.search(text):
            return kind
    return "other"
