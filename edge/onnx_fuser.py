"""An exported network in ONNX Runtime on the CPU.

Threads do not spin, since idle ones would take the cores from the capture: in a paced
loop spinning costs four times the CPU time. Inputs and output are bound once for each
window size, so that a tile allocates nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bifocus.edge.cpu_threads import count_threads
from bifocus.edge.network_inputs import (
    NetworkForm,
    check_tensors,
    load_form,
    mend,
    read_file,
)
from bifocus.engine_manifest import TensorSpec, manifest_path
from bifocus.errors import EngineError, EngineLostError
from bifocus.records import UInt8Image

_DTYPES: dict[str, Literal["uint8", "float32"]] = {
    "tensor(uint8)": "uint8",
    "tensor(float)": "float32",
}


class OnnxEngine:
    """A network from one `.onnx` file; one thread at a time.

    Parameters
    ----------
    path
        The file; its manifest lies beside it.
    threads
        Of ONNX Runtime; by default all cores of this process but one, which is the
        capture's.

    Raises
    ------
    EngineError
        If onnxruntime is not installed, or the file is missing, damaged, changed,
        unverified, or takes what a pair does not have.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        content, form = _read(path)
        self._session, self.name = open_session(
            path, content, form, threads or count_threads()
        )
        self.is_float, self.form = self._check(path, form)
        self._bound: _BoundWindow | None = None

    def stream(
        self, windows: Iterable[Mapping[str, UInt8Image]]
    ) -> Iterator[UInt8Image]:
        """Yield each fused window; see `bifocus.edge.network_fuser.NetworkEngine`."""
        for window in windows:
            height_px, width_px = window[self.form.inputs[0]].shape[:2]
            bound = self._bound
            if bound is None or bound.size_px != (height_px, width_px):
                # First the old buffers go, then the new ones come.
                bound = self._bound = None
                bound = _BoundWindow(self, (height_px, width_px))
                self._bound = bound
            yield bound.run(window)

    def close(self) -> None:
        """Let the session go."""
        self._bound = None
        self._session = None

    @property
    def session(self) -> Any:
        """ONNX Runtime's session.

        Raises
        ------
        EngineError
            If the engine has been closed.
        """
        if self._session is None:
            msg = f"{self.form.network}: the engine is closed"
            raise EngineError(msg)
        return self._session

    def _check(self, path: Path, form: NetworkForm | None) -> tuple[bool, NetworkForm]:
        """Return whether the graph is of the older, float form, and the form."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        dtypes = {node.type for node in (*inputs, *outputs)}
        if form is None:
            metadata = self._session.get_modelmeta().custom_metadata_map
            names = tuple(node.name for node in inputs)
            if dtypes != {"tensor(float)"}:
                msg = (
                    f"{path}: no manifest beside it, so that nothing says whether it "
                    "is whole and right; make both anew with bifocus export"
                )
                raise EngineError(msg)
            return True, _older_form(path, metadata, names, outputs[0].name)
        check_tensors(form, session_tensors(self._session), str(path))
        return False, form


class _BoundWindow:
    """The buffers of one window size, bound to the session once."""

    def __init__(self, engine: OnnxEngine, size_px: tuple[int, int]) -> None:
        self._engine = engine
        self.size_px = size_px
        form, height, width = engine.form, *size_px
        shape = (1, 3, height, width) if engine.is_float else (1, height, width, 3)
        dtype: npt.DTypeLike = np.float32 if engine.is_float else np.uint8
        self._inputs = {name: np.empty(shape, dtype) for name in form.inputs}
        self._output = np.empty(shape, dtype)
        self._binding = engine.session.io_binding()
        for name, buffer in self._inputs.items():
            self._binding.bind_cpu_input(name, buffer)
        self._binding.bind_output(
            form.output, "cpu", 0, dtype, list(shape), self._output.ctypes.data
        )

    def run(self, window: Mapping[str, UInt8Image]) -> UInt8Image:
        engine = self._engine
        for name, buffer in self._inputs.items():
            if engine.is_float:
                buffer[0] = window[name].transpose(2, 0, 1)
                buffer /= np.float32(255)
            else:
                buffer[0] = window[name]
        try:
            engine.session.run_with_iobinding(self._binding)
        except Exception as error:  # its own, unexported kinds again
            height, width = self.size_px
            msg = (
                f"{engine.form.network}: ONNX Runtime failed on a window of "
                f"{width}x{height} px: {error}; take --engine physics"
            )
            raise EngineLostError(msg) from error
        if engine.is_float:
            return self._bytes()
        pixels: UInt8Image = self._output[0]
        return pixels

    def _bytes(self) -> UInt8Image:
        output = self._output[0]
        if not np.isfinite(output).all():
            msg = (
                f"{self._engine.form.network}: the network gave NaN or infinity; take "
                "--model physics"
            )
            raise EngineLostError(msg)
        np.clip(output, 0, 1, out=output)
        output *= np.float32(255)
        pixels: UInt8Image = np.rint(output).astype(np.uint8).transpose(1, 2, 0)
        return pixels


def open_session(
    path: Path, content: bytes, form: NetworkForm | None, threads: int
) -> tuple[Any, str]:
    """Return ONNX Runtime's session on the CPU, and its name for the report.

    Raises
    ------
    EngineError
        If onnxruntime is not installed, or refuses the graph.
    """
    runtime = _import_runtime(path)
    options = runtime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises its own, unexported kinds
        msg = f"{path}: ONNX Runtime cannot load it: {error}{mend(form)}"
        raise EngineError(msg) from error
    plural = "s" if threads > 1 else ""
    return session, f"onnxruntime {runtime.__version__}, CPU, {threads} thread{plural}"


def session_tensors(session: Any) -> list[TensorSpec]:
    """Return what a session takes and gives; a shape where it is no picture."""
    found = []
    for node in (*session.get_inputs(), *session.get_outputs()):
        shape = tuple(node.shape)
        is_picture = len(shape) == 4 and node.type == "tensor(uint8)"
        is_fixed = all(isinstance(side, int) for side in shape)
        found.append(
            TensorSpec(
                name=node.name,
                dtype=_DTYPES.get(node.type, "float16"),
                layout="NHWC" if shape and shape[-1] == 3 else "NCHW",
                shape=None if is_picture or not is_fixed else shape,
            )
        )
    return found


def _import_runtime(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        msg = (
            f"{path}: needs onnxruntime; pip install 'bifocus[onnxruntime]', or take "
            "--model physics"
        )
        raise EngineError(msg) from error
    return onnxruntime


def _read(path: Path) -> tuple[bytes, NetworkForm | None]:
    """Return the file's bytes and its form; None for one without a manifest."""
    if manifest_path(path).is_file():
        form = load_form(path)
        return read_file(form, path), form
    try:
        return path.read_bytes(), None
    except FileNotFoundError as error:
        msg = f"{path}: no such network; take --model physics"
        raise EngineError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot read it: {error.strerror or error}"
        raise EngineError(msg) from error


def _older_form(
    path: Path, metadata: Mapping[str, str], inputs: tuple[str, ...], output: str
) -> NetworkForm:
    """Return the form of a graph from before manifests, which told it in itself."""
    try:
        named = tuple(json.loads(metadata["inputs"]))
        stride_px, halo_px = int(metadata["stride_px"]), int(metadata["halo_px"])
    except (KeyError, ValueError) as error:
        msg = (
            f"{path}: has no manifest, nor says itself what it takes; export it anew "
            "with bifocus export"
        )
        raise EngineError(msg) from error
    if named != inputs:
        msg = f"{path}: says it takes {named}, but takes {inputs}; export it anew"
        raise EngineError(msg)
    return NetworkForm(
        network=metadata.get("network", path.stem),
        inputs=inputs,
        output=output,
        stride_px=stride_px,
        halo_px=halo_px,
    )
