"""Times on a GPU, and what the GPU itself can do: the measure for every other figure.

Times are taken by events on the stream, not by the processor's clock. The ceiling is
measured on the spot, by one large matrix product and one large copy, since data sheets
count sparse and boosted figures.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

WARM_UP = 10
# torch gives these no types.
_event: Any = torch.cuda.Event
_stream: Any = torch.cuda.Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What the device does at best: half-precision products, and bytes moved."""

    flop_per_s: float
    byte_per_s: float


def measure_ceiling(device: torch.device, *, side: int, copy_bytes: int) -> Ceiling:
    """Measure both; `side` is that of square matrices in float16.

    The best of ten runs counts: nothing makes a product faster than it is.
    """
    left = torch.randn(side, side, device=device).half()
    right = torch.randn(side, side, device=device).half()
    product_s = min(run_times_s(lambda: left @ right, device, count=10))
    source = torch.empty(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = min(run_times_s(lambda: target.copy_(source), device, count=10))
    return Ceiling(
        flop_per_s=2 * side**3 / product_s,
        byte_per_s=2 * copy_bytes / copy_s,  # each byte is read and written
    )


def run_times_s(
    work: Callable[[], object], device: torch.device, *, count: int
) -> list[float]:
    """Return the seconds of `count` runs, after some that are not counted."""
    for _ in range(WARM_UP if device.type == "cuda" else 1):
        work()
    if device.type != "cuda":
        return [_host_time_s(work) for _ in range(count)]
    pairs = []
    torch.cuda.synchronize(device)
    for _ in range(count):
        start, end = (_event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) / 1000 for start, end in pairs]


def _host_time_s(work: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def percentiles_ms(times_s: list[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in ms, by the nearest rank, as the loop counts them."""
    ranked = sorted(times_s)

    def at(share: float) -> float:
        return 1000 * ranked[min(len(ranked) - 1, int(share * len(ranked)))]

    return {
        "p50_ms": 1000 * statistics.median(ranked),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
    }


def graphed(
    work: Callable[[], torch.Tensor], device: torch.device
) -> Callable[[], None]:
    """Return `work` as one CUDA graph, so that the processor launches it at once.

    On another device, and where it cannot be recorded, it is returned as it is; see
    `is_graph`.
    """
    if device.type != "cuda":
        return lambda: _discard(work())
    try:
        return _recorded(work, device)
    except RuntimeError as error:
        sys.stderr.write(f"no CUDA graph: {error}\n")
        torch.cuda.synchronize(device)
        return lambda: _discard(work())


def is_graph(replay: Callable[[], None]) -> bool:
    """Return whether that is a CUDA graph."""
    return isinstance(getattr(replay, "__self__", None), torch.cuda.CUDAGraph)


def _recorded(
    work: Callable[[], torch.Tensor], device: torch.device
) -> Callable[[], None]:
    stream: Any = _stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries choose their kernels before the capture
            work()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def _discard(_result: torch.Tensor) -> None:
    pass
