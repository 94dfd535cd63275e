"""A whole fusion in ONNX Runtime on the CPU.

For a machine without a GPU physics in NumPy is the cheaper way; this one is for checks,
and for whoever wants one file that does it all.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.edge.cpu_threads import count_threads
from bifocus.edge.network_inputs import check_tensors, load_form, read_file
from bifocus.edge.onnx_fuser import open_session, session_tensors
from bifocus.edge.whole_fuser import Numbers
from bifocus.errors import EngineError, EngineLostError
from bifocus.optics_inputs import Float32
from bifocus.records import UInt8Image


class WholeOnnxEngine:
    """A whole fusion from one `.onnx` file; one thread at a time.

    Parameters
    ----------
    path
        The file; its manifest lies beside it.
    threads
        Of ONNX Runtime; by default all cores of this process but one.

    Raises
    ------
    EngineError
        If onnxruntime is not installed, or the file is missing, damaged, changed,
        unverified, or not a whole fusion.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self.form = load_form(path, is_whole=True)
        content = read_file(self.form, path)
        session, self.name = open_session(
            path, content, self.form, threads or count_threads()
        )
        check_tensors(self.form, session_tensors(session), str(path))
        self._session: Any = session
        self._tables: dict[str, Float32] = {}
        self._outputs = [
            self.form.output,
            *(spec.name for spec in self.form.numbers),
        ]

    def set_tables(self, tables: Mapping[str, Float32]) -> None:
        """Take over the tables; see `bifocus.edge.whole_fuser.WholeEngine`."""
        self._tables = dict(tables)

    def fuse_pair(self, shots: Mapping[str, UInt8Image]) -> tuple[UInt8Image, Numbers]:
        """Return picture and numbers; see `bifocus.edge.whole_fuser.WholeEngine`."""
        if self._session is None:
            raise EngineError(f"{self.form.network}: the engine is closed")
        feeds = {name: np.ascontiguousarray(shot[None]) for name, shot in shots.items()}
        try:
            found = self._session.run(self._outputs, {**feeds, **self._tables})
        except Exception as error:  # onnxruntime raises its own, unexported kinds
            msg = (
                f"{self.form.network}: ONNX Runtime failed on a pair: {error}; take "
                "--engine physics"
            )
            raise EngineLostError(msg) from error
        numbers = dict(zip(self._outputs[1:], found[1:], strict=True))
        pixels: UInt8Image = found[0][0]
        return pixels, numbers

    def close(self) -> None:
        """Let the session go."""
        self._session = None
