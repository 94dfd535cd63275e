"""The doctor's eyes on cameras: devices, libraries, kernel buffers."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from bifocus.camera_config import CameraConfig
from bifocus.diagnosis import Diagnosis, Machine
from bifocus.doctor_cameras import diagnose_cameras
from tests.root.machines import machine, states, the

WITHOUT = "  Video I/O:\n    GStreamer:                   NO\n"
WITH = "  Video I/O:\n    GStreamer:                   YES (1.20.3)\n"
ADAPTER: TypeAdapter[CameraConfig] = TypeAdapter(CameraConfig)


def diagnose(
    kind: str,
    facts: Machine,
    *,
    is_found: bool = True,
    build: str = WITHOUT,
    may_open: bool = True,
    **keys: Any,
) -> list[Diagnosis]:
    document = {"kind": kind, "width_px": 640, "height_px": 480, **keys}
    return list(
        diagnose_cameras(
            ADAPTER.validate_python(document),
            facts,
            finds=lambda name: is_found,
            opencv_build=build,
            may_open=lambda path: may_open,
        )
    )


@pytest.fixture
def webcam(tmp_path: Path) -> Machine:
    name = "/sys/class/video4linux/video0/name"
    return machine(tmp_path, {name: "HD Camera\n", "/dev/video0": ""})


def test_a_webcam_is_named_and_ours(webcam: Machine) -> None:
    rows = diagnose("opencv", webcam)
    assert (rows[0].name, rows[0].found) == ("/dev/video0", "HD Camera")
    assert rows[-1].state == "ok"


def test_a_missing_webcam_names_those_that_are_there(webcam: Machine) -> None:
    row = diagnose("opencv", webcam, device=2)[-1]
    assert (row.name, row.state) == ("/dev/video2", "fail")
    assert "/dev/video0" in row.found


def test_a_forbidden_webcam_says_what_to_do(webcam: Machine) -> None:
    row = diagnose("opencv", webcam, may_open=False)[-1]
    assert row.state == "fail"
    assert "usermod -aG video" in row.advice


@pytest.mark.parametrize(("build", "state"), [(WITH, "ok"), (WITHOUT, "fail")])
def test_opencv_from_pip_has_no_gstreamer(
    tmp_path: Path, build: str, state: str
) -> None:
    (row,) = diagnose("gstreamer", Machine(root=tmp_path), build=build)
    assert row.state == state


@pytest.mark.parametrize(
    ("kind", "word"),
    [("aravis", "libaravis"), ("basler", "pypylon"), ("picamera2", "picamera2")],
)
def test_a_missing_library_is_named(tmp_path: Path, kind: str, word: str) -> None:
    row = diagnose(kind, Machine(root=tmp_path), is_found=False)[-1]
    assert row.state == "fail"
    assert word in row.found
    assert "install" in row.advice
    assert diagnose(kind, Machine(root=tmp_path))[-1].state == "ok"


def test_kernel_buffers_that_lose_frames_are_warned_of(tmp_path: Path) -> None:
    facts = machine(
        tmp_path,
        {
            "/proc/sys/net/core/rmem_max": "212992\n",
            "/sys/module/usbcore/parameters/usbfs_memory_mb": "16\n",
        },
    )
    rows = diagnose("aravis", facts)
    assert states(rows) == {
        "aravis": "ok",
        "network buffer": "warn",
        "USB buffer": "warn",
    }
    assert "net.core.rmem_max" in the(rows, "network buffer").advice


def test_a_simulated_camera_needs_nothing(tmp_path: Path) -> None:
    assert [row.state for row in diagnose("virtual", Machine(root=tmp_path))] == ["ok"]
