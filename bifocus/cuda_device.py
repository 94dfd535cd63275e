"""What the NVIDIA driver says of a GPU: name, compute capability, memory free now.

It is asked through ctypes, since an engine's fit must be judged before any CUDA package
is imported, and on a machine that has none. Functions and numbers are those of the CUDA
driver API's cuda.h.
"""

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bifocus.errors import EngineError

_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute
_ERRORS = {
    3: "the driver is not initialised",
    46: "the GPU is in use by another process that holds it exclusively",
    100: "the driver finds no GPU (in a container: start it with --gpus all)",
    101: "there is no GPU of that number",
    802: "the system is not ready for CUDA yet",
    803: "the driver and the loaded kernel module differ: restart the machine",
    804: "the driver is too old for this CUDA library",
    999: "the driver failed; after an update, restart the machine",
}
_KERNEL_MODULE = Path("/sys/module/nvidia/version")
_MEMORY_INFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaDevice:
    """One GPU.

    Attributes
    ----------
    name
        As "NVIDIA Orin".
    compute_capability
        As "8.7".
    driver
        The CUDA version that the driver serves and, on a desktop, its own major
        version: "CUDA 12.6", "CUDA 13.0, 580".
    is_integrated
        Whether it shares the processor's memory, as on a Jetson.
    total_bytes, free_bytes
        Memory now; on an integrated GPU free is what the system can give.
    """

    name: str
    compute_capability: str
    driver: str
    is_integrated: bool
    total_bytes: int
    free_bytes: int


def read_cuda_device(ordinal: int = 0, library: str = "libcuda.so.1") -> CudaDevice:
    """Ask the driver.

    Parameters
    ----------
    ordinal
        Number of the GPU, among those that CUDA_VISIBLE_DEVICES leaves.
    library
        The driver's library.

    Raises
    ------
    EngineError
        If there is no driver or no such GPU, or it does not answer.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        msg = (
            f"no NVIDIA driver here ({error}); take --engine onnxruntime or openvino, "
            "or install the driver"
        )
        raise EngineError(msg) from error
    _call(cuda, "cuInit", ctypes.c_uint(0))
    device = ctypes.c_int()
    _call(cuda, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
    name = ctypes.create_string_buffer(256)
    _call(cuda, "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    major, minor = (_attribute(cuda, device, key) for key in (_MAJOR, _MINOR))
    is_integrated = bool(_attribute(cuda, device, _INTEGRATED))
    free_bytes, total_bytes = _memory(cuda, device)
    if is_integrated:
        free_bytes = min(free_bytes, available_memory_bytes())
    return CudaDevice(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major}.{minor}",
        driver=_driver(cuda),
        is_integrated=is_integrated,
        total_bytes=total_bytes,
        free_bytes=free_bytes,
    )


def available_memory_bytes(memory_info: Path = _MEMORY_INFO) -> int:
    """Return what the system can give without swapping (MemAvailable)."""
    text = memory_info.read_text(encoding="ascii", errors="replace")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    if not found:
        msg = f"{memory_info}: no MemAvailable in it"
        raise EngineError(msg)
    return int(found[1]) * 1024


def _call(cuda: Any, function: str, *arguments: Any) -> None:
    code = getattr(cuda, function)(*arguments)
    if code:
        meaning = _ERRORS.get(code, "see CUresult in cuda.h")
        msg = f"{function} gave CUDA error {code}: {meaning}"
        raise EngineError(msg)


def _attribute(cuda: Any, device: ctypes.c_int, key: int) -> int:
    value = ctypes.c_int()
    arguments = (ctypes.byref(value), ctypes.c_int(key), device)
    _call(cuda, "cuDeviceGetAttribute", *arguments)
    return value.value


def _memory(cuda: Any, device: ctypes.c_int) -> tuple[int, int]:
    """Return free and total bytes; the question needs a context for a moment."""
    context, popped = ctypes.c_void_p(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        _call(cuda, "cuCtxPushCurrent_v2", context)
        try:
            _call(cuda, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        finally:
            _call(cuda, "cuCtxPopCurrent_v2", ctypes.byref(popped))
    finally:
        _call(cuda, "cuDevicePrimaryCtxRelease_v2", device)
    return free.value, total.value


def _driver(cuda: Any) -> str:
    version = ctypes.c_int()
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    text = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    if _KERNEL_MODULE.is_file():  # not on a Jetson
        own = _KERNEL_MODULE.read_text(encoding="ascii").partition(".")[0]
        text += f", {own}"
    return text
