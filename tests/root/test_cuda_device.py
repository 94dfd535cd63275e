"""The driver is asked rightly: against a small library in C with known answers."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bifocus import cuda_device
from bifocus.cuda_device import available_memory_bytes, read_cuda_device
from bifocus.errors import EngineError

# Signatures as in NVIDIA's cuda.h. A context must be pushed before memory is asked for,
# and everything retained must be released.
DRIVER = r"""
#include <stddef.h>
#include <string.h>
static int retained, pushed;
int cuInit(unsigned flags) { return INIT_ERROR; }
int cuDeviceGet(int *device, int ordinal) {
    if (ordinal > 0) return 101;
    *device = 7; return 0;
}
int cuDeviceGetName(char *name, int length, int device) {
    if (device != 7) return 101;
    strncpy(name, "NVIDIA Orin", length); return 0;
}
int cuDeviceGetAttribute(int *value, int key, int device) {
    if (device != 7) return 101;
    *value = key == 75 ? 8 : key == 76 ? 7 : key == 18 ? INTEGRATED : -1; return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = &retained; retained++; return 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; return pushed; }
int cuCtxPushCurrent_v2(void *context) {
    if (context != &retained) return 201;
    pushed++; return 0;
}
int cuCtxPopCurrent_v2(void **context) { pushed--; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
    if (!pushed || !retained) return 201;
    *free = (size_t)6 << 40; *total = (size_t)8 << 40; return 0;
}
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
"""


@pytest.fixture
def driver(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in of the driver")
    defines = {"INIT_ERROR": 0, "INTEGRATED": 0, **getattr(request, "param", {})}
    source, library = tmp_path / "cuda.c", tmp_path / "libcuda.so.1"
    source.write_text(DRIVER, encoding="ascii")
    options = [f"-D{name}={value}" for name, value in defines.items()]
    command = [compiler, "-shared", "-fPIC", *options, "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return str(library)


def test_a_desktop_gpu_is_read(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "version"
    version.write_text("580.65.06\n", encoding="ascii")
    monkeypatch.setattr(cuda_device, "_KERNEL_MODULE", version)
    for _ in range(2):  # nothing is left behind by the first call
        device = read_cuda_device(library=driver)
    assert device.name == "NVIDIA Orin"
    assert device.compute_capability == "8.7"
    assert device.driver == "CUDA 12.6, 580"
    assert not device.is_integrated
    assert (device.free_bytes, device.total_bytes) == (6 << 40, 8 << 40)


@pytest.mark.parametrize("driver", [{"INTEGRATED": 1}], indirect=True)
def test_a_jetson_has_free_what_the_system_can_give(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_device, "_KERNEL_MODULE", tmp_path / "none")
    device = read_cuda_device(library=driver)
    assert device.is_integrated
    assert device.driver == "CUDA 12.6"
    assert 0 < device.free_bytes < 1 << 40  # of this machine, not the library's 6 TiB


def test_no_driver_and_no_such_gpu_are_said(driver: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no NVIDIA driver here.*onnxruntime"):
        read_cuda_device(library=str(tmp_path / "none.so"))
    with pytest.raises(EngineError, match=r"cuDeviceGet gave CUDA error 101: there is"):
        read_cuda_device(1, library=driver)


@pytest.mark.parametrize("driver", [{"INIT_ERROR": 100}], indirect=True)
def test_a_container_without_its_gpu_is_explained(driver: str) -> None:
    with pytest.raises(EngineError, match=r"error 100: .*--gpus all"):
        read_cuda_device(library=driver)


def test_available_memory_is_read_in_bytes(tmp_path: Path) -> None:
    table = tmp_path / "meminfo"
    table.write_text("MemTotal: 9 kB\nMemAvailable:  123 kB\n", encoding="ascii")
    assert available_memory_bytes(table) == 123 * 1024
    table.write_text("MemTotal: 9 kB\n", encoding="ascii")
    with pytest.raises(EngineError, match="no MemAvailable"):
        available_memory_bytes(table)
