"""`bifocus export`: what it prints, the files it makes, and usage that it refuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="exports start from a checkpoint")

from bifocus.engine_manifest import check_files, load_manifest
from bifocus.model.checkpoint import save_checkpoint
from tests.cli.commands import run_cli
from tests.export.small_networks import NARROW, awake_network, silence_torch
from tests.tissue import procedural_tissue


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    silence_torch()
    path = tmp_path / "small.safetensors"
    network = awake_network("base")
    save_checkpoint(path, network, name="base", config=NARROW["base"], training={})
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    optics = {"na": 0.75, "pixel_um": 0.25, "half_spacing_um": 0.75}
    text = json.dumps({**optics, "wavelengths_um": [0.62, 0.53, 0.46]})
    (folder / "pairs.json").write_text(text)
    for seed, end in enumerate("ab"):
        light = cv2.GaussianBlur(procedural_tissue(96, 3), (0, 0), 1 + seed)
        stored = np.rint(235 * np.clip(light, 0, 1)).astype(np.uint8)
        cv2.imwrite(str(folder / f"one_{end}.png"), stored[..., ::-1])
    return folder


@pytest.mark.slow
def test_int8_calibrated_with_a_folder_of_pairs(
    checkpoint: Path, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = run_cli(
        *("export", checkpoint, "-o", out, "--to", "onnx", "--precision", "int8"),
        *("--runtime", "openvino", "--calibration", pairs, "--json"),
    )
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert document["verified"] is True
    assert set(document["parity"]) == {"psnr_db", "differing", "max"}
    assert document["audit"]["Conv int8"] >= 1
    assert document["calibration"] == "1 pictures given by the user"
    assert [Path(name).name for name in document["files"]] == [
        "small.int8.openvino.onnx",
        "small.int8.openvino.test.npz",
    ]
    manifest = load_manifest(Path(document["files"][0]))
    check_files(manifest, out)
    assert manifest.export_command.endswith("--precision int8 --runtime openvino")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tile", 64, 96, "--dynamic"), "exclude each other"),
        (("--calibration", "x"), "--calibration is for --precision int8, not fp32"),
        (("--runtime", "openvino"), "--runtime is for --to onnx --precision int8"),
        (("--to", "openvino", "--precision", "fp16"), "take --precision fp32 or int8"),
        (("--tile", 8, 96), "96x8 px is too small"),
        (("--to", "caffe"), "caffe"),
    ],
)
def test_bad_usage_is_refused_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path, options: tuple[object, ...], words: str
) -> None:
    out = tmp_path / "out"
    assert run_cli("export", checkpoint, "-o", out, *options).fails(2, words)
    assert not out.exists()


def test_a_missing_or_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    assert run_cli("export", path, "-o", tmp_path / "out").fails(2, str(path))
    path.write_bytes(b"\0" * 64)
    assert run_cli("export", path, "-o", tmp_path / "out").fails(1, str(path))
