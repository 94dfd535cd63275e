"""The shipped network in INT8 on a machine without any tissue: it passes the gate."""

from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("torch", reason="exports start from a checkpoint")
pytest.importorskip("onnxruntime", reason="the gate runs in it")

from bifocus.errors import ConfigError
from bifocus.export import calibration
from bifocus.export.export_files import ExportRequest
from bifocus.export.export_model import export_model
from bifocus.export.parity_pictures import coloured_noise
from tests.export.small_networks import silence_torch

WEIGHTS = Path(__file__).parents[2] / "weights"


@pytest.fixture(autouse=True)
def _no_tissue(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Any:
        raise ConfigError("there is no tissue on this machine")

    monkeypatch.setattr(calibration, "find_data_dir", nowhere)
    silence_torch()


def test_noise_is_among_the_pictures_and_is_not_the_gates() -> None:
    pictures, origin = calibration.default_pictures(("minus", "plus"))
    assert origin == "24 simulated pairs of procedural tissue, and 4 of noise"
    assert len(pictures) == 28
    hashes = {part["minus"].tobytes() for part in pictures}
    assert len(hashes) == 28
    gate = coloured_noise(("minus", "plus"), (160, 160), 4)
    assert gate["minus"].tobytes() not in hashes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_base_in_int8_needs_nobodys_slides(
    tmp_path: Path, kind: Literal["onnx", "openvino"]
) -> None:
    """It was refused on noise: no tissue reaches as far, and ranges cut it off."""
    if kind == "openvino":
        pytest.importorskip("openvino", reason="its form of INT8 is checked in it")
    done = export_model(
        ExportRequest(
            source=WEIGHTS / "base.safetensors",
            folder=tmp_path,
            kind=kind,
            precision="int8",
        )
    )
    assert done.manifest.audit["Conv int8"] >= 6
    assert {one.pictures for one in done.manifest.parity} == {
        "test pair",
        "random pictures",
    }
