"""A whole fusion in OpenVINO on the CPU: an IR (`.xml`, `.bin`) or an ONNX file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.edge.cpu_threads import count_threads
from bifocus.edge.network_inputs import load_form, mend
from bifocus.edge.openvino_fuser import (
    compile_graph,
    engine_name,
    first_line,
    import_openvino,
    read_graph,
)
from bifocus.edge.whole_fuser import Numbers
from bifocus.errors import EngineError, EngineLostError
from bifocus.optics_inputs import Float32
from bifocus.records import UInt8Image


class WholeOpenvinoEngine:
    """A whole fusion from one `.xml` or `.onnx` file; one thread at a time.

    Parameters
    ----------
    path
        The file; its manifest lies beside it, and names the weights of an IR.
    threads
        Of OpenVINO; by default all cores of this process but one.

    Raises
    ------
    EngineError
        If openvino is not installed, or a file is missing, damaged, changed,
        unverified, or not a whole fusion.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        openvino = import_openvino(path)
        self.form = load_form(path, is_whole=True)
        core = openvino.Core()
        model = read_graph(core, path, self.form)
        threads = threads or count_threads()
        self.name = engine_name(openvino, threads)
        try:
            compiled = compile_graph(core, model, threads)
        except RuntimeError as error:
            msg = f"{path}: OpenVINO cannot compile it: {first_line(error)}"
            raise EngineError(msg + mend(self.form)) from error
        self._request: Any = compiled.create_infer_request()
        self._outputs = {port.any_name: port for port in compiled.outputs}
        self._tables: dict[str, Float32] = {}

    def set_tables(self, tables: Mapping[str, Float32]) -> None:
        """Take over the tables; see `bifocus.edge.whole_fuser.WholeEngine`."""
        self._tables = dict(tables)

    def fuse_pair(self, shots: Mapping[str, UInt8Image]) -> tuple[UInt8Image, Numbers]:
        """Return picture and numbers; see `bifocus.edge.whole_fuser.WholeEngine`."""
        if self._request is None:
            raise EngineError(f"{self.form.network}: the engine is closed")
        feeds = {name: np.ascontiguousarray(shot[None]) for name, shot in shots.items()}
        try:
            self._request.infer({**feeds, **self._tables}, share_inputs=True)
        except RuntimeError as error:
            msg = (
                f"{self.form.network}: OpenVINO failed on a pair: {first_line(error)}; "
                "take --engine physics"
            )
            raise EngineLostError(msg) from error
        # What the request holds is overwritten by the next pair.
        found = {
            name: np.array(self._request.get_tensor(port).data)
            for name, port in self._outputs.items()
        }
        pixels: UInt8Image = found.pop(self.form.output)[0]
        return pixels, found

    def close(self) -> None:
        """Let the compiled graph go."""
        self._request = None
