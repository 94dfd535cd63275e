"""Sections of the instrument file for Micro-Manager's demonstration devices."""

import importlib.util
from typing import Any

import pytest

from bifocus.camera_config import MicroManagerCameraConfig
from bifocus.stage_config import MicroManagerStageConfig

if importlib.util.find_spec("pymmcore") is None:
    pytest.skip(
        "needs pymmcore: pip install 'bifocus[micromanager]'", allow_module_level=True
    )
mm_test_adapters = pytest.importorskip(
    "mm_test_adapters", reason="needs mm-test-adapters"
)


def core(**changes: Any) -> dict[str, Any]:
    demo = [
        {
            "label": "XY",
            "library": "DemoCamera",
            "device": "DXYStage",
            "properties": {"Velocity": "1"},  # um per ms
        },
        {"label": "Z", "library": "DemoCamera", "device": "DStage"},
        {
            "label": "Cam",
            "library": "DemoCamera",
            "device": "DCam",
            "properties": {"OnCameraCCDXSize": "80", "OnCameraCCDYSize": "64"},
        },
    ]
    folder = str(mm_test_adapters.device_adapter_path())
    return {"adapter_paths": [folder], "devices": demo} | changes


def stage_section(**changes: Any) -> MicroManagerStageConfig:
    base: dict[str, Any] = {
        "kind": "micromanager",
        "core": core(),
        "xy_device": "XY",
        "z_device": "Z",
        "x_um": (-450.0, 450.0),
        "y_um": (-300.0, 300.0),
        "z_um": (-250.0, 250.0),
        "speed_um_per_s": (1000.0, 1000.0, 1000.0),
        "acceleration_um_per_s2": (1e6, 1e6, 1e6),
        "step_um": (0.015, 0.015, 0.001),
        "settle_s": 0.01,
        "deadlines": {"motion_extra_s": 0.3},
    }
    return MicroManagerStageConfig.model_validate(base | changes)


def camera_section(**changes: Any) -> MicroManagerCameraConfig:
    base: dict[str, Any] = {
        "kind": "micromanager",
        "core": core(),
        "device": "Cam",
        "width_px": 80,
        "height_px": 64,
        "exposure_s": 0.005,
        "timeout_s": 0.5,
    }
    return MicroManagerCameraConfig.model_validate(base | changes)
