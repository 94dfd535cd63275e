"""Looks at everything an instrument needs, and says what to do about each trouble.

Opens no device and moves nothing; `bifocus hal-check` does that.
"""

import contextlib
import ctypes.util
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bifocus.config import Instrument
from bifocus.diagnosis import Diagnosis, Machine
from bifocus.doctor_cameras import diagnose_cameras
from bifocus.doctor_engines import (
    NEEDED,
    diagnose_client,
    diagnose_cuda_python,
    diagnose_gpu,
    diagnose_onnxruntime,
    diagnose_openvino,
    diagnose_packages,
    diagnose_tensorrt,
    diagnose_wish,
)
from bifocus.doctor_jetson import diagnose_jetson, jetson_model
from bifocus.doctor_loading import load_module, load_tensorrt_module
from bifocus.doctor_machine import (
    diagnose_clocks,
    diagnose_disk,
    diagnose_memory,
    diagnose_power,
    measure_disk,
    read_clocks,
)
from bifocus.doctor_ports import (
    diagnose_our_port,
    diagnose_ports,
    find_holders,
    list_ports,
    read_access,
)
from bifocus.tensorrt_module import Flavour

_GPU_QUERY = (
    "nvidia-smi",
    "--query-gpu=name,compute_cap,driver_version",
    "--format=csv,noheader",
)
_QUERY_S = 20.0  # the first call loads the driver
_FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt_rtx")


def examine(
    instrument: Instrument, out: Path, *, needed_mb: float | None = None
) -> list[Diagnosis]:
    """Examine this machine for one instrument.

    Parameters
    ----------
    out
        The folder that a scan would be written to; it must exist.
    needed_mb
        What one scan takes on the disk, where that is known.
    """
    machine = Machine()
    return [
        *_ports(instrument, machine),
        *_cameras(instrument, machine),
        *_packages(),
        *_engines(instrument, machine),
        *_disk(out, machine, needed_mb),
        *diagnose_memory(machine),
        *diagnose_clocks(read_clocks(machine), machine),
        *diagnose_power(machine),
        *diagnose_jetson(machine),
    ]


def read_versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Return the installed version of each package, None where there is none."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _packages() -> Iterator[Diagnosis]:
    import cv2

    # OpenCV may come from pip under many names, from apt, or from JetPack.
    versions = {**read_versions(NEEDED), "opencv": cv2.__version__}
    yield from diagnose_packages(sys.version_info[:2], versions)


def _ports(instrument: Instrument, machine: Machine) -> Iterator[Diagnosis]:
    ports = list_ports()
    yield from diagnose_ports(ports, machine)
    device = getattr(instrument.stage, "port", "virtual")
    if device == "virtual":
        found = "needs no serial port of this machine"
        yield Diagnosis(
            topic="ports", name=instrument.stage.kind, state="ok", found=found
        )
        return
    access = read_access(device)
    holders = find_holders(device, machine)
    yield from diagnose_our_port(device, access, ports, holders)


def _cameras(instrument: Instrument, machine: Machine) -> Iterator[Diagnosis]:
    import cv2

    yield from diagnose_cameras(
        instrument.camera,
        machine,
        finds=_finds,
        opencv_build=cv2.getBuildInformation(),
        may_open=lambda path: os.access(path, os.R_OK | os.W_OK),
    )


def _engines(instrument: Instrument, machine: Machine) -> Iterator[Diagnosis]:
    rows = list(_every_engine(machine))
    yield from rows
    yield diagnose_wish(instrument.scan.engine, rows)


def _every_engine(machine: Machine) -> Iterator[Diagnosis]:
    yield from diagnose_gpu(_ask_nvidia())
    yield from diagnose_onnxruntime(
        load_module, read_versions(("onnxruntime", "onnxruntime-gpu"))
    )
    yield diagnose_openvino(load_module)
    for flavour in _FLAVOURS:
        yield diagnose_tensorrt(
            flavour,
            load_tensorrt_module,
            board=jetson_model(machine),
            venv_is_closed=_venv_is_closed(),
        )
    yield from diagnose_cuda_python(load_module)
    yield diagnose_client(load_module)


def _disk(out: Path, machine: Machine, needed_mb: float | None) -> Iterator[Diagnosis]:
    try:
        disk = measure_disk(out, machine)
    except OSError as error:
        yield Diagnosis(
            topic="disk",
            name=str(out),
            state="fail",
            found=f"cannot be written: {error.strerror}",
            advice="name another folder with --out",
        )
        return
    yield from diagnose_disk(disk, needed_mb)


def _finds(name: str) -> bool:
    if name.startswith("lib"):
        return ctypes.util.find_library(name.removeprefix("lib")) is not None
    return importlib.util.find_spec(name) is not None


def _ask_nvidia() -> str | None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            _GPU_QUERY, capture_output=True, text=True, check=False, timeout=_QUERY_S
        )
        return done.stdout or done.stderr
    return None


def _venv_is_closed() -> bool:
    """Whether this is a venv that does not see the system's packages."""
    settings = Path(sys.prefix) / "pyvenv.cfg"
    if sys.prefix == sys.base_prefix or not settings.exists():
        return False
    text = settings.read_text(encoding="utf-8").replace(" ", "").lower()
    return "include-system-site-packages=true" not in text
