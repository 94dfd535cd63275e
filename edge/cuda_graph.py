"""Records what an engine queues into a CUDA graph, to be launched by one call.

pycuda has no graphs; the runtime API of cuda-bindings records on any stream's handle,
whoever made the stream, since both work in the primary context.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

from bifocus.edge.cuda_bindings_memory import import_runtime, make_caller
from bifocus.errors import EngineError, EngineLostError

logger = logging.getLogger(__name__)


class Graph(Protocol):
    """Recorded work."""

    def launch(self) -> None:
        """Queue it all."""
        ...

    def free(self) -> None:
        """Give it back."""
        ...


Recorder = Callable[[int, Callable[[], None]], Graph | None]


def record_graph(handle: int, work: Callable[[], None]) -> Graph | None:
    """Record what `work` queues on the stream of this handle, without running it.

    Returns
    -------
    Graph or None
        None, with the reason logged, if the work cannot be recorded here: then it is
        queued anew each time, which costs some launches and is as right.
    """
    try:
        runtime = import_runtime()
    except EngineError as error:
        logger.info("no CUDA graph: %s", error)
        return None
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    call = make_caller(runtime)
    call("cudaStreamBeginCapture", handle, mode)
    try:
        work()
    except EngineLostError as error:
        _abandon(runtime, handle)
        logger.info("no CUDA graph: %s", error)
        return None
    graph = call("cudaStreamEndCapture", handle)
    try:
        executable = call("cudaGraphInstantiate", graph, 0)
    finally:
        call("cudaGraphDestroy", graph)
    return _CudaGraph(call, executable, handle)


class _CudaGraph:
    def __init__(self, call: Callable[..., Any], executable: Any, handle: int) -> None:
        self._call = call
        self._executable = executable
        self._handle = handle

    def launch(self) -> None:
        self._call("cudaGraphLaunch", self._executable, self._handle)

    def free(self) -> None:
        executable, self._executable = self._executable, None
        if executable is not None:
            self._call("cudaGraphExecDestroy", executable)


def _abandon(runtime: Any, handle: int) -> None:
    """End a recording that failed; its error is not a sticky one, and is cleared."""
    _error, graph = runtime.cudaStreamEndCapture(handle)
    if graph is not None and int(graph):
        runtime.cudaGraphDestroy(graph)
    runtime.cudaGetLastError()
