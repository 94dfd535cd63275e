"""What an export is asked for, the files it becomes in each format, and their writing.

The manifest comes last: a folder without one that fits holds nothing that a loader
takes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bifocus.engine_manifest import (
    SUFFIX,
    EngineManifest,
    Precision,
    TensorSpec,
    manifest_path,
    write_manifest,
)
from bifocus.errors import ConfigError
from bifocus.export.openvino_ir import convert_to_ir
from bifocus.export.parity import Pictures
from bifocus.export.pixel_graph import DEFAULT_OPSET
from bifocus.export.quantise import Runtime
from bifocus.export.triton_repository import MODEL_FILE, make_config, next_version
from bifocus.whole_file import write_whole

GraphKind = Literal["onnx", "openvino", "triton"]
# What a device has yet to show, whatever was shown here.
_GPU, _SERVER = "any GPU", "a Triton server"
_RUNTIMES: dict[GraphKind, Runtime] = {
    "onnx": "onnxruntime",
    "triton": "onnxruntime",
    "openvino": "openvino",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export, and to where.

    Attributes
    ----------
    source
        Checkpoint (.safetensors).
    folder
        Made if absent.
    kind, precision
        Format, and what the network computes in; fp16 has no use in OpenVINO on a CPU.
    size_px
        Rows and columns of the tiles; None for any size.
    runtime
        Who runs an INT8 graph; None for the one of `kind`. "tensorrt" also puts what
        is not INT8 in half precision.
    calibration
        Pictures for INT8; None for the best at hand.
    is_whole
        With the physics before the network; such a graph takes one size alone, and as
        ONNX it is meant for TensorRT.
    """

    source: Path
    folder: Path
    kind: GraphKind
    precision: Precision
    size_px: tuple[int, int] | None = None
    runtime: Runtime | None = None
    calibration: Sequence[Pictures] | None = None
    opset: int = DEFAULT_OPSET
    is_whole: bool = False

    def __post_init__(self) -> None:
        """Refuse combinations that no runtime takes."""
        if self.kind == "openvino" and self.precision == "fp16":
            msg = (
                "OpenVINO computes float32 on processors whatever the file holds: take "
                "--precision fp32 or int8"
            )
            raise ConfigError(msg)
        if self.is_whole and self.size_px is None:
            raise ConfigError("--whole needs --tile H W, the size of the shots")

    @property
    def int8_runtime(self) -> Runtime:
        """Who is to run it, if it is INT8."""
        return self.runtime or self._usual_runtime

    @property
    def name(self) -> str:
        """Name of the files, without their ends."""
        parts = [self.source.stem]
        if self.is_whole:
            parts.append("whole")
        if self.precision != "fp32":
            parts.append(self.precision)
        if self.precision == "int8" and self.int8_runtime != self._usual_runtime:
            parts.append(self.int8_runtime)
        if self.size_px is not None:
            parts.append(f"{self.size_px[1]}x{self.size_px[0]}")
        # Triton's folder names go into URLs, where a point is legal and a pity.
        return ("-" if self.kind == "triton" else ".").join(parts)

    @property
    def needs_gpu(self) -> bool:
        """Whether the file is meant for a GPU."""
        if self.is_whole:
            return self.kind != "openvino"
        return self.precision == "fp16" or self.int8_runtime == "tensorrt"

    @property
    def _usual_runtime(self) -> Runtime:
        if self.is_whole and self.kind == "onnx":
            return "tensorrt"
        return _RUNTIMES[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Files that passed: where the manifest is, and what it says."""

    path: Path
    manifest: EngineManifest
    calibration: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFiles:
    """The files of one format: the first is what the runtime opens.

    Attributes
    ----------
    name
        Of the export, for texts and for the test pair.
    files
        Content by path relative to the folder.
    manifest
        Where the manifest is to lie.
    never_run_on
        Hardware that the files are meant for and have not been tried on.
    """

    name: str
    files: dict[str, bytes]
    manifest: Path
    never_run_on: tuple[str, ...]

    def with_pair(self, content: bytes) -> str:
        """Add the test pair; return its name."""
        name = f"{self.name}.test.npz"
        self.files[name] = content
        return name

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of all files, by name."""
        return {
            name: hashlib.sha256(content).hexdigest()
            for name, content in self.files.items()
        }


def pack_graph(
    request: ExportRequest,
    content: bytes,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    facts: dict[str, str],
) -> ExportFiles:
    """Return the files that hold a graph in the format asked for.

    Parameters
    ----------
    request
        Format and names.
    content
        The ONNX file.
    inputs, outputs
        What it takes and gives.
    facts
        Written into a server's configuration.

    Raises
    ------
    ConfigError
        If a file is where a folder should be.
    EngineError
        If OpenVINO is wanted and absent, or cannot read the graph.
    """
    name, folder = request.name, request.folder
    gpu = (_GPU,) if request.needs_gpu else ()
    if request.kind == "openvino":
        xml, weights = convert_to_ir(content)
        files = {f"{name}.xml": xml, f"{name}.bin": weights}
    elif request.kind == "onnx":
        files = {f"{name}.onnx": content}
    else:
        version = next_version(folder, name)
        config = make_config(
            name, inputs, outputs, size_px=request.size_px, facts=facts
        )
        return ExportFiles(
            name=name,
            files={
                f"{name}/{version}/{MODEL_FILE}": content,
                f"{name}/config.pbtxt": config.encode(),
            },
            manifest=folder / f"{name}{SUFFIX}",
            never_run_on=(*gpu, _SERVER),
        )
    main = next(iter(files))
    return ExportFiles(
        name=name, files=files, manifest=manifest_path(folder / main), never_run_on=gpu
    )


def write_files(folder: Path, packed: ExportFiles, manifest: EngineManifest) -> None:
    """Write the files, then the manifest.

    Raises
    ------
    ConfigError
        If a file is where a folder should be.
    SlideFileError
        If the disk refuses a file.
    """
    try:
        for name, content in packed.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{error.filename}: a file is where a folder is to be") from (
            error
        )
    write_manifest(manifest, packed.manifest)
