"""One way to build an engine: TensorRT 10.3 to 11.x, and TensorRT for RTX.

The network is always strongly typed, so that the graph alone decides what computes in
which type, and no flag of the builder speaks of precision. Sizes are fixed by one
profile. This is meant to run in a process of its own, as a build can be killed for its
memory: `bifocus.export.tensorrt_process`.
"""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bifocus.errors import EngineError
from bifocus.export.tensorrt_audit import Claim, audit_engine, audit_network
from bifocus.export.tensorrt_profile import BuildOptions, add_profile
from bifocus.tensorrt_api import (
    Builder,
    IBuilderConfig,
    INetworkDefinition,
    TensorRT,
)
from bifocus.tensorrt_module import full_name, is_rtx

_LOG = logging.getLogger(__name__)

# Phase, steps done, steps in all.
Progress = Callable[[str, int, int], None]

_MEMORY_WORDS = re.compile(
    r"out of ?memory|insufficient memory|no implementation for node|"
    r"could not find any implementation|workspace|cudaErrorMemoryAllocation|bad_alloc",
    re.IGNORECASE,
)
_TOLD_SEVERITIES = 2  # internal error, error, warning


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """An engine, and what was learned in making it.

    `timing_cache` is empty where the version has none (RTX).
    """

    plan: bytes
    audit: dict[str, int]
    timing_cache: bytes
    seconds: float


@dataclass(slots=True)
class _Messages:
    """What TensorRT said; its calls return None and tell the reason only here."""

    told: list[str] = field(default_factory=list)

    def tell(self, severity: int, message: str) -> None:
        if severity < _TOLD_SEVERITIES:
            self.told.append(message)
        # What stops a build is raised with its reason, so that it is told once.
        _LOG.debug("TensorRT: %s", message)

    def reason(self) -> str:
        return "; ".join(self.told[-3:]) or "TensorRT gave no reason"


def build_engine(
    trt: TensorRT,
    graph: bytes,
    options: BuildOptions,
    *,
    timing_cache: bytes = b"",
    on_progress: Progress | None = None,
) -> BuiltEngine:
    """Parse, audit and build one engine.

    Parameters
    ----------
    trt
        `tensorrt`, `tensorrt_rtx`, or a stand-in.
    graph
        The bytes of an ONNX file.
    options
        What to build.
    timing_cache
        Of an earlier build on this device: it makes the next one faster.
    on_progress
        Called in this thread, or in one of TensorRT's.

    Raises
    ------
    EngineError
        If TensorRT refuses the graph or the build, with its reason and the next step;
        or if the network or the engine is not what it claims to be.
    """
    start_s = time.monotonic()
    messages = _Messages()
    logger = _make_logger(trt, messages)
    builder = _open_builder(trt, logger)
    strongly_typed = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(strongly_typed))
    _parse(trt, network, logger, graph)
    audit = audit_network(trt, network, options.claim)
    config = builder.create_builder_config()
    add_profile(builder, config, network, options)
    _configure(trt, config, options)
    if on_progress is not None:
        config.progress_monitor = _make_monitor(trt, on_progress)
    if not is_rtx(trt):  # there, touching the cache asks for a GPU
        cache = config.create_timing_cache(timing_cache)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            # Of another device or version: TensorRT says so, and a fresh one will do.
            cache = config.create_timing_cache(b"")
            if cache is not None:
                config.set_timing_cache(cache, ignore_mismatch=False)
    memory = builder.build_serialized_network(network, config)
    if memory is None:
        raise EngineError(_build_failure(messages, options))
    plan = bytes(memory)
    if options.can_run:
        audit |= _inspect(trt, logger, messages, plan, options.claim)
    return BuiltEngine(
        plan=plan,
        audit=audit,
        timing_cache=b"" if is_rtx(trt) else _cache_bytes(config),
        seconds=time.monotonic() - start_s,
    )


def _open_builder(trt: TensorRT, logger: object) -> Builder:
    try:
        return trt.Builder(logger)
    except TypeError as error:  # pybind11: "factory function returned nullptr"
        msg = (
            f"{full_name(trt)} cannot make a builder ({error}); the NVIDIA "
            "driver is missing or does not fit: run nvidia-smi, then bifocus doctor"
        )
        raise EngineError(msg) from error


def _parse(
    trt: TensorRT, network: INetworkDefinition, logger: object, graph: bytes
) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse(graph):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    texts = [
        f"node {error.node()} '{error.node_name()}' ({error.node_operator()}): "
        f"{_own_words(error.desc())}"
        for error in errors
    ]
    reason = "; ".join(texts) or "no reason given"
    msg = f"{full_name(trt)} refuses the graph: {reason}{_advice(reason)}"
    raise EngineError(msg)


def _own_words(text: str) -> str:
    """Return an error on one line, without what a missing GPU adds to each."""
    lines = [line.strip() for line in text.splitlines()]
    return ": ".join(line for line in lines if line and "catchCudaError" not in line)


def _advice(reason: str) -> str:
    """Return what is known about a refusal of the parser."""
    if "DequantizeLinear" in reason:
        return (
            ". Its int8 must be symmetric (int8 weights and activations, zero point 0) "
            "and leave biases in float: quantise with bifocus export --precision int8"
        )
    if re.search(r"uint8", reason, re.IGNORECASE):
        return (
            ". TensorRT takes bytes only next to a cast: the graph must cast the "
            "picture before it turns its axes. Export it again with bifocus export"
        )
    return ". Export it again with bifocus export, or take --engine onnxruntime"


def _configure(trt: TensorRT, config: IBuilderConfig, options: BuildOptions) -> None:
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.optimisation_level
    # The inspector needs it; what it costs is some kB of names in the file.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


def _cache_bytes(config: IBuilderConfig) -> bytes:
    cache = config.get_timing_cache()
    memory = None if cache is None else cache.serialize()
    return b"" if memory is None else bytes(memory)


def _build_failure(messages: _Messages, options: BuildOptions) -> str:
    reason = messages.reason()
    if _MEMORY_WORDS.search(reason):
        return (
            "TensorRT found no way to build within "
            f"{options.workspace_bytes >> 20} MiB of workspace: {reason}. This is most "
            "often memory: close other programs, add swap, or export a smaller tile"
        )
    return f"TensorRT could not build the engine: {reason}"


def _inspect(
    trt: TensorRT, logger: object, messages: _Messages, plan: bytes, claim: Claim
) -> dict[str, int]:
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:  # it never raises
        msg = f"TensorRT cannot load the engine it has built: {messages.reason()}"
        raise EngineError(msg)
    return audit_engine(trt, engine, claim)


def _make_logger(trt: TensorRT, messages: _Messages) -> object:
    base: Any = trt.ILogger

    class BuildLogger(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)  # pybind11 wants it called by its own name

        def log(self, severity: Any, msg: str) -> None:
            messages.tell(int(severity), msg)

    return BuildLogger()


def _make_monitor(trt: TensorRT, on_progress: Progress) -> object:
    base: Any = trt.IProgressMonitor

    class BuildMonitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self.totals: dict[str, int] = {}

        def phase_start(
            self, phase_name: str, parent_phase: str | None, num_steps: int
        ) -> None:
            self.totals[phase_name] = num_steps
            on_progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            on_progress(phase_name, step + 1, self.totals.get(phase_name, 0))
            return True  # False would stop the build

        def phase_finish(self, phase_name: str) -> None:
            total = self.totals.pop(phase_name, 0)
            on_progress(phase_name, total, total)

    return BuildMonitor()
