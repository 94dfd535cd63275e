"""OpenVINO's intermediate representation of an ONNX graph: an XML file and weights."""

import tempfile
from pathlib import Path

from bifocus.errors import EngineError
from bifocus.export.runtimes import import_openvino


def convert_to_ir(content: bytes) -> tuple[bytes, bytes]:
    """Return the XML and the weights of a graph, at the precision that it has.

    Raises
    ------
    EngineError
        If OpenVINO is absent, or cannot read the graph.
    """
    ov = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        try:
            model = ov.Core().read_model(content)
            ov.save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot read the graph: {error}") from error
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
