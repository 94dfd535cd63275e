"""The physics on a GPU, the whole fusion, and TensorRT engines where there is one."""

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.gpu_networks import Scale, calm_head, compare, half_network, pictures
from bench.gpu_timing import graphed, is_graph, percentiles_ms, run_times_s
from bifocus.errors import EngineError
from bifocus.export.pixel_network import PixelNetwork, picture_inputs
from bifocus.model.network_registry import build_network
from bifocus.tensorrt_api import ICudaEngine, TensorRT
from bifocus.tensorrt_module import Flavour, load_tensorrt

_NETWORK = "base"
_SIZE_STEP_PX = 8


class NotRunError(Exception):
    """An item cannot run here; the text says why."""


def check_physics(
    network: str | None, device: torch.device, scale: Scale
) -> dict[str, Any]:
    """Return parity and times of the physics fusion, or of it and a network after it.

    The picture is compared with the same graph's on the processor; that this graph
    does what the numpy code does is a matter of tests/export.
    """
    module, optics = _physics(scale.parity_px)
    shots = pictures(2, scale.parity_px, torch.device("cpu"))
    after = None if network is None else calm_head(build_network(network))
    with torch.no_grad():
        exact = None if after is None else PixelNetwork(after)
        expected = _fuse(module, optics, exact, shots)
        half = None if after is None else half_network(after, device)
        found = _fuse(*_moved(module, optics, device), half, _to(shots, device))
    figures: dict[str, Any] = compare(found.cpu().numpy(), expected.numpy())
    module, optics = _moved(*_physics(scale.tile_px), device)
    shots = pictures(2, scale.tile_px, device)
    with torch.no_grad():
        replay = graphed(lambda: _fuse(module, optics, half, shots), device)
        times_s = run_times_s(replay, device, count=scale.count)
    return figures | percentiles_ms(times_s) | {"is_graph": is_graph(replay)}


def _physics(size_px: tuple[int, int]) -> tuple[Any, list[Tensor]]:
    from bifocus.export.physics_graph import PhysicsGraph
    from bifocus.focal_offset import PairOptics
    from bifocus.optics_inputs import transfer_inputs

    optics = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75)
    draft = PhysicsGraph(size_px)
    tables = transfer_inputs(optics, draft.layout.block_px)
    n_offsets = tables["transfer"].shape[2]
    module = PhysicsGraph(size_px, n_offsets=n_offsets).eval()
    return module, [torch.tensor(np.asarray(table)) for table in tables.values()]


def _moved(
    module: Any, optics: list[Tensor], device: torch.device
) -> tuple[Any, list[Tensor]]:
    return module.to(device), _to(optics, device)


def _to(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    return [tensor.to(device) for tensor in tensors]


def _fuse(
    module: Any,
    optics: list[Tensor],
    network: PixelNetwork | None,
    shots: list[Tensor],
) -> Tensor:
    from bifocus.export.physics_graph import rounded

    measured = module.measure(*shots, *optics)
    if network is None:
        physics: Tensor = rounded(module.levels(measured, "apart"))[0]
        return physics.to(torch.uint8)
    joint, remainder = rounded(module.levels(measured, "together"))
    made = {
        "minus": measured.minus_moved,
        "plus": measured.plus_moved,
        "physics": joint,
        "remainder": remainder,
        "sharper": measured.sharper,
        "other": measured.other,
    }
    picture: Tensor = network(*(made[name] for name in network.inputs))
    return picture


class WholeFusion:
    """Physics and a network in half precision, from two shots: what a loop computes."""

    inputs = ("minus", "plus")

    def __init__(self, network: str, device: torch.device, scale: Scale) -> None:
        self._network = half_network(calm_head(build_network(network)), device)
        self._module, self._optics = _moved(*_physics(scale.tile_px), device)

    def __call__(self, *shots: Tensor) -> Tensor:
        """Return the fused picture, uint8 (1, H, W, 3)."""
        return _fuse(self._module, self._optics, self._network, list(shots))


def check_engine(
    flavour: Flavour, precision: str, device: torch.device, scale: Scale
) -> dict[str, Any]:
    """Build the engine of one network, run it, and compare it with float32.

    Raises
    ------
    NotRunError
        If this TensorRT is not here, or does not take this GPU.
    """
    try:
        trt = load_tensorrt(flavour)
    except EngineError as error:
        raise NotRunError(str(error)) from error
    if device.type != "cuda":
        raise NotRunError(f"{flavour} {trt.__version__} runs engines on a GPU only")
    # The reference is float32: without this, convolutions drop half of its digits.
    torch.backends.cudnn.allow_tf32 = False
    size_px = tuple(side // _SIZE_STEP_PX * _SIZE_STEP_PX for side in scale.tile_px)
    torch.manual_seed(0)
    network = calm_head(build_network(_NETWORK))
    built = _build(flavour, network, precision, (size_px[0], size_px[1]))
    inputs = picture_inputs(network)
    images = pictures(len(inputs), (size_px[0], size_px[1]), device)
    engine = _load(trt, built.plan)
    fused = torch.zeros_like(images[0])
    run = _runner(engine, dict(zip(inputs, images, strict=True)), fused)
    times_s = run_times_s(run, device, count=scale.count)
    with torch.no_grad():
        expected = PixelNetwork(network).to(device)(*images)
    return {
        **compare(fused.cpu().numpy(), expected.cpu().numpy()),
        **percentiles_ms(times_s),
        "build_s": built.seconds,
        "engine_mb": len(built.plan) / 1e6,
        "audit": built.audit,
    }


def _build(
    flavour: Flavour, network: Any, precision: str, size_px: tuple[int, int]
) -> Any:
    try:
        graph = _graph(network, precision, size_px)
    except ImportError as error:
        raise NotRunError(f"the export to ONNX needs {error.name}") from error
    from bifocus.cuda_device import read_cuda_device
    from bifocus.export.tensorrt_audit import Claim
    from bifocus.export.tensorrt_process import (
        BuildRequest,
        build_in_child,
        plan_workspace_bytes,
    )
    from bifocus.export.tensorrt_profile import BuildOptions

    n_convolutions = sum(
        isinstance(part, torch.nn.Conv2d) for part in network.modules()
    )
    claim = Claim(
        precision="int8" if precision == "int8" else "fp16",
        # How many become int8 is measured by the quantiser; at least one does.
        n_other=n_convolutions - 1 if precision == "int8" else 0,
        images=(*picture_inputs(network), "fused"),
    )
    options = BuildOptions(
        claim=claim,
        height_px=size_px[0],
        width_px=size_px[1],
        stride_px=network.stride,
        workspace_bytes=plan_workspace_bytes(read_cuda_device()),
    )
    try:
        return build_in_child(
            BuildRequest(flavour=flavour, graph=graph, options=options),
            on_progress=lambda *step: print(*step, file=sys.stderr),
        )
    except EngineError as error:
        # TensorRT for RTX builds for its GPUs wherever it runs, and loads on them only.
        if flavour == "tensorrt_rtx" and "cannot load" in str(error):
            raise NotRunError(str(error)) from error
        raise


def _graph(network: Any, precision: str, size_px: tuple[int, int]) -> bytes:
    from bifocus.export.pixel_graph import describe_graph, trace_pictures

    if precision == "fp16":
        half = PixelNetwork(network, is_half=True)
        return describe_graph(trace_pictures(half, half.inputs), {})
    from bifocus.export.quantise import plan_int8, quantise

    inputs = picture_inputs(network)
    model = trace_pictures(PixelNetwork(network), inputs)
    small_px = (min(256, size_px[0]), min(256, size_px[1]))
    images = pictures(len(inputs), small_px, torch.device("cpu"))
    feeds = {name: image.numpy() for name, image in zip(inputs, images, strict=True)}
    plan = plan_int8(model, [feeds], "tensorrt")
    return describe_graph(quantise(model, plan, "tensorrt"), {})


def _load(trt: TensorRT, plan: bytes) -> ICudaEngine:
    base: Any = trt.ILogger
    told: list[str] = []

    class Listener(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= 1:
                told.append(msg)

    engine = trt.Runtime(Listener()).deserialize_cuda_engine(plan)
    if engine is None:
        raise NotRunError(f"{trt.__version__} does not load it here: {told[-1:]}")
    return engine


def _runner(engine: ICudaEngine, images: dict[str, Tensor], fused: Tensor) -> Any:
    context = engine.create_execution_context()
    if context is None:
        raise EngineError("TensorRT gives no execution context: out of memory?")
    for name, image in images.items():
        context.set_input_shape(name, tuple(image.shape))
        context.set_tensor_address(name, image.data_ptr())
    context.set_tensor_address("fused", fused.data_ptr())
    missing = context.infer_shapes()
    if missing:
        raise EngineError(f"TensorRT still wants {missing}")

    def run() -> None:
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise EngineError("execute_async_v3 refused")

    return run
