"""A TensorRT build in a process of its own, so that its death is a message here.

A build can take more memory than a Jetson has; the kernel then kills it, or TensorRT
reports "no implementation for node". The child is this module itself: it reads a
request, tells its progress line by line through a pipe (TensorRT prints to standard
output as it likes), and leaves the engine in a folder that the parent throws away.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bifocus.cuda_device import CudaDevice, available_memory_bytes
from bifocus.errors import BifocusError, ConfigError, EngineError
from bifocus.export.tensorrt_audit import Claim
from bifocus.export.tensorrt_build import BuiltEngine, Progress, build_engine
from bifocus.export.tensorrt_profile import BuildOptions
from bifocus.tensorrt_module import Flavour, load_tensorrt

_MIB = 1 << 20
# Below this not even our smallest network builds; TensorRT itself takes the most.
LEAST_FREE_BYTES = 512 * _MIB
# More never made one of our engines faster, and it is asked for at once.
MOST_WORKSPACE_BYTES = 4096 * _MIB
_PLAN, _CACHE = "engine", "timing_cache"
_ERRORS: dict[str, type[BifocusError]] = {
    "ConfigError": ConfigError,
    "EngineError": EngineError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What the child needs.

    Attributes
    ----------
    flavour
        `tensorrt` or `tensorrt_rtx`.
    graph
        The ONNX file's content.
    options
        What to build.
    timing_cache
        Of an earlier build here; may be empty.
    """

    flavour: Flavour
    graph: bytes
    options: BuildOptions
    timing_cache: bytes = b""


def plan_workspace_bytes(device: CudaDevice | None) -> int:
    """Return how much memory a layer may take: half of what is free now.

    Parameters
    ----------
    device
        The GPU; None for a build on the processor (TensorRT for RTX).

    Raises
    ------
    EngineError
        If there is too little to begin.
    """
    free_bytes = available_memory_bytes() if device is None else device.free_bytes
    if free_bytes < LEAST_FREE_BYTES:
        msg = (
            f"only {free_bytes // _MIB} MiB of memory are free, and an engine needs "
            f"{LEAST_FREE_BYTES // _MIB} MiB to build: close other programs (on a "
            "Jetson the desktop: sudo systemctl isolate multi-user.target), or add swap"
        )
        raise EngineError(msg)
    return min(free_bytes // 2, MOST_WORKSPACE_BYTES)


def build_in_child(
    request: BuildRequest, *, on_progress: Progress | None = None
) -> BuiltEngine:
    """Build one engine; see `bifocus.export.tensorrt_build.build_engine`.

    Raises
    ------
    EngineError
        As `build_engine`; or if the child was killed or crashed, naming memory where
        that is the likely cause.
    """
    with tempfile.TemporaryDirectory(prefix="bifocus-build-") as name:
        folder = Path(name)
        (folder / "graph.onnx").write_bytes(request.graph)
        (folder / _CACHE).write_bytes(request.timing_cache)
        document = {"flavour": request.flavour, "options": asdict(request.options)}
        (folder / "request.json").write_text(json.dumps(document), encoding="utf-8")
        result = _run_child(folder, on_progress)
        return BuiltEngine(
            plan=(folder / _PLAN).read_bytes(),
            audit=result["audit"],
            timing_cache=(folder / _CACHE).read_bytes(),
            seconds=result["seconds"],
        )


def _run_child(folder: Path, on_progress: Progress | None) -> dict[str, Any]:
    with (folder / "stderr").open("wb") as errors, _child(folder, errors) as events:
        child, lines = events
        result: dict[str, Any] = {}
        for line in lines:
            event = json.loads(line)
            if "progress" not in event:
                result = event
            elif on_progress is not None:
                on_progress(*event["progress"])
        code = child.wait()
    if "error" in result:
        raise _ERRORS[result["kind"]](result["error"])
    if code or not result:
        tail = (folder / "stderr").read_text("utf-8", "replace").strip()[-500:]
        raise EngineError(explain_death(code, tail))
    return result


@contextmanager
def _child(
    folder: Path, errors: Any
) -> Iterator[tuple["subprocess.Popen[bytes]", Any]]:
    """Start the child, and stop it whatever happens here (Ctrl-C, say)."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", __name__, str(folder), str(writer)]
    try:
        child = subprocess.Popen(
            command, stdout=errors, stderr=errors, pass_fds=(writer,)
        )
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as lines:
        try:
            yield child, lines
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()


def explain_death(code: int, tail: str) -> str:
    """Return why a child that said nothing has ended.

    Parameters
    ----------
    code
        As `subprocess` gives it: negative for a signal.
    tail
        The last of what it printed.
    """
    said = f" It printed: {' '.join(tail.split())}" if tail else ""
    if code == -signal.SIGKILL:
        return (
            "the build was killed, most likely by the kernel for its memory "
            "(dmesg tells): close other programs, add swap, or export for a smaller "
            f"tile.{said}"
        )
    if code < 0:
        name = signal.Signals(-code).name
        return (
            f"the build crashed in TensorRT or the driver ({name}); run bifocus "
            f"doctor, and try a lower optimisation level.{said}"
        )
    return f"the build ended with code {code} and no result.{said}"


def run_child(folder: Path, pipe: int) -> None:
    """Be the child: build what the folder asks for, and tell the pipe."""
    with os.fdopen(pipe, "w", encoding="utf-8", buffering=1) as events:

        def tell(**event: Any) -> None:
            events.write(json.dumps(event) + "\n")

        try:
            document = json.loads((folder / "request.json").read_text("utf-8"))
            options = document["options"]
            options["claim"]["images"] = tuple(options["claim"]["images"])
            options["claim"] = Claim(**options["claim"])
            built = build_engine(
                load_tensorrt(document["flavour"]),
                (folder / "graph.onnx").read_bytes(),
                BuildOptions(**options),
                timing_cache=(folder / _CACHE).read_bytes(),
                on_progress=lambda *step: tell(progress=step),
            )
        except (ConfigError, EngineError) as error:
            tell(kind=type(error).__name__, error=str(error))
            return
        (folder / _PLAN).write_bytes(built.plan)
        (folder / _CACHE).write_bytes(built.timing_cache)
        tell(audit=built.audit, seconds=built.seconds)


if __name__ == "__main__":
    run_child(Path(sys.argv[1]), int(sys.argv[2]))
