"""Fusion by an exported network, run by ONNX Runtime on the CPU.

The file says of itself which images it takes, in which order, and how far it sees
(`bifocus.export.to_onnx`). Whole tiles are computed at once, so no seam can show.
"""

import time
from pathlib import Path

import cv2
import numpy as np

from bifocus.errors import EngineError
from bifocus.physics_fusion import MeasuredPair, fuse_measured
from bifocus.records import FloatImage, FusedTile, UInt8Image

_INPUTS = ("minus", "plus", "physics", "sharper", "other")


class OnnxFuser:
    """A network from one `.onnx` file; one thread at a time.

    Raises
    ------
    EngineError
        When made: if onnxruntime is not installed, or the file is missing, damaged, or
        asks for images that a pair does not have.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            msg = f"{path}: needs onnxruntime; pip install onnxruntime, or take "
            raise EngineError(msg + "--model physics") from error
        if not path.is_file():
            msg = f"{path}: no such network; take --model physics"
            raise EngineError(msg)
        options = onnxruntime.SessionOptions()
        # Idle threads that spin would take the cores from the capture.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own, unexported kinds
            msg = f"{path}: ONNX Runtime cannot load it: {error}"
            raise EngineError(msg) from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        unknown = [name for name in self._inputs if name not in _INPUTS]
        if unknown:
            msg = f"{path}: asks for '{unknown[0]}'; a pair has {', '.join(_INPUTS)}"
            raise EngineError(msg)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.model = metadata.get("network", path.stem)
        self.engine = f"onnxruntime {onnxruntime.__version__}, CPU"

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        """Return the tile on the pixel grid of the sharper shot."""
        start_s = time.perf_counter()
        physics = fuse_measured(measured)
        pictures = self._pictures(measured, physics.pixels)
        feeds = {name: _as_input(pictures[name]) for name in self._inputs}
        output: FloatImage = self._session.run(None, feeds)[0][0]
        if not np.isfinite(output).all():
            msg = (
                f"{self.model}: the network gave NaN or infinity; take --model physics"
            )
            raise EngineError(msg)
        pixels = np.rint(255 * np.clip(output, 0, 1)).astype(np.uint8)
        return FusedTile(
            pixels=np.ascontiguousarray(pixels.transpose(1, 2, 0)),
            offset=physics.offset,
            quality=physics.quality,
            seconds=measured.seconds + time.perf_counter() - start_s,
            sharper_is_plus=physics.sharper_is_plus,
        )

    def _pictures(
        self, measured: MeasuredPair, physics: UInt8Image
    ) -> dict[str, UInt8Image]:
        """Return every picture a network may ask for, on the sharper shot's grid."""
        down, right = measured.shift_px
        minus, plus = measured.minus, measured.plus
        if measured.sharper_is_plus:
            minus = _moved(minus, -down, -right)
            sharper, other = plus, minus
        else:
            plus = _moved(plus, down, right)
            sharper, other = minus, plus
        return {
            "minus": minus,
            "plus": plus,
            "physics": physics,
            "sharper": sharper,
            "other": other,
        }


def _moved(pixels: UInt8Image, down_px: float, right_px: float) -> UInt8Image:
    if down_px == 0 and right_px == 0:
        return pixels
    matrix = np.array([[1, 0, right_px], [0, 1, down_px]], dtype=np.float64)
    size = (pixels.shape[1], pixels.shape[0])
    return np.asarray(
        cv2.warpAffine(
            pixels,
            matrix,
            size,
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        dtype=np.uint8,
    )


def _as_input(pixels: UInt8Image) -> FloatImage:
    """Return (1, 3, rows, columns) float32 in 0..1."""
    planes = pixels.transpose(2, 0, 1)[None]
    return np.ascontiguousarray(planes, dtype=np.float32) / np.float32(255)
