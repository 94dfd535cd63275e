"""A folder that Triton, or any KServe v2 server with ONNX Runtime, serves as it is.

::

    DIR/base/config.pbtxt         names, types, batching
    DIR/base/1/model.onnx         the first version; a later export adds 2
    DIR/base.manifest.json        of the newest version

Format: Triton's `model_config.proto` and "Model Repository" of its user guide.
"""

from pathlib import Path

from bifocus.engine_manifest import TensorSpec
from bifocus.errors import ConfigError

MODEL_FILE = "model.onnx"
# Requests of one size that come within this time are computed together.
_QUEUE_DELAY_US = 2000
_MAX_BATCH = 8


def next_version(repository: Path, name: str) -> int:
    """Return the number of the version to write: one more than the highest there.

    Raises
    ------
    ConfigError
        If a file is where the model's folder should be.
    """
    folder = repository / name
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; it must be the model's folder")
    present = folder.iterdir() if folder.is_dir() else ()
    numbers = [int(one.name) for one in present if one.name.isdecimal()]
    return max(numbers, default=0) + 1


def make_config(
    name: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    size_px: tuple[int, int] | None,
    facts: dict[str, str],
) -> str:
    """Return `config.pbtxt`.

    Parameters
    ----------
    name
        The model's, and its folder's.
    inputs, outputs
        Pictures, uint8 NHWC; the batch axis is the server's. Where there are tables
        and numbers as well, the graph takes one pair at a time, and nothing is batched.
    size_px
        Rows and columns, or None for any.
    facts
        Further parameters, for clients that ask: halo, stride, ranges.
    """
    has_batch = all(one.shape is None for one in (*inputs, *outputs))
    parts = [
        f'name: "{name}"',
        'platform: "onnxruntime_onnx"',
        f'default_model_filename: "{MODEL_FILE}"',
        f"max_batch_size: {_MAX_BATCH if has_batch else 0}",
    ]
    for kind, tensors in (("input", inputs), ("output", outputs)):
        parts += [f"{kind} {{ {_tensor(one, size_px, has_batch)} }}" for one in tensors]
    if has_batch:
        delay = f"max_queue_delay_microseconds: {_QUEUE_DELAY_US}"
        parts.append(f"dynamic_batching {{ {delay} }}")
    parts.append("version_policy { latest { num_versions: 1 } }")
    parts += [
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
        for key, value in facts.items()
    ]
    return "\n".join(parts) + "\n"


def _tensor(one: TensorSpec, size_px: tuple[int, int] | None, has_batch: bool) -> str:
    head = f'name: "{one.name}" data_type: TYPE_'
    if one.dtype == "uint8":
        dims = [*(() if has_batch else (1,)), *(size_px or (-1, -1)), 3]
        return f"{head}UINT8 dims: {dims}"
    # The server has no tensors without an axis: it gives such a number one.
    reshape = "" if one.shape else " reshape { shape: [ ] }"
    return f"{head}FP32 dims: {[*(one.shape or (1,))]}{reshape}"
