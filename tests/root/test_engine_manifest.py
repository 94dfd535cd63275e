"""Manifests: what comes back is what was written; anything else is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bifocus.engine_manifest import (
    EngineManifest,
    ParityReport,
    ParityTolerance,
    TensorSpec,
    TrainedRanges,
    check_files,
    check_size,
    check_trained_range,
    check_verified,
    hash_files,
    load_manifest,
    manifest_path,
    read_checked,
    write_manifest,
)
from bifocus.errors import EngineError

CONTENT = b"a graph"


def picture(name: str) -> TensorSpec:
    return TensorSpec(name=name, dtype="uint8", layout="NHWC")


def manifest(**changes: Any) -> EngineManifest:
    values: dict[str, Any] = {
        "files": {"base.onnx": hashlib.sha256(CONTENT).hexdigest()},
        "network": "base",
        "config": "{}",
        "kind": "onnx",
        "precision": "fp32",
        "inputs": (picture("minus"), picture("plus"), picture("physics")),
        "outputs": (picture("fused"),),
        "batch": None,
        "height_px": None,
        "width_px": None,
        "stride_px": 8,
        "halo_px": 72,
        "physics": "input",
        "trained": TrainedRanges(
            na=(0.4, 0.95),
            half_spacing_um=(0.4, 1.2),
            pixel_um=(0.16, 0.3),
            reference_na=0.75,
        ),
        "source": "base.safetensors",
        "source_sha256": "0" * 64,
        "data_hashes": ("ab12",),
        "bifocus_version": "0.1.0",
        "opset": 18,
        "test_pair": None,
        "parity": (),
        "verified": True,
        **changes,
    }
    return EngineManifest(**values)


def report(*, passed: bool) -> ParityReport:
    return ParityReport(
        subject="ONNX Runtime",
        against="PyTorch fp32",
        pictures="random",
        device="CPU",
        psnr_db=99.8,
        differing=0.0,
        max=0,
        nan=0,
        tolerance=ParityTolerance(max=1, differing=0.01, psnr_db=65),
        passed=passed,
    )


def write_engine(folder: Path, **changes: Any) -> Path:
    engine = folder / "base.onnx"
    engine.write_bytes(CONTENT)
    write_manifest(manifest(**changes), manifest_path(engine))
    return engine


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    engine = write_engine(tmp_path, parity=(report(passed=True),))
    assert manifest_path(engine).name == "base.onnx.manifest.json"
    read = load_manifest(engine)
    assert read == manifest(parity=(report(passed=True),))
    assert load_manifest(manifest_path(engine)) == read
    assert read.main_file == "base.onnx"
    check_files(read, tmp_path)
    assert read_checked(read, tmp_path, "base.onnx") == CONTENT


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT + b"\0", b""])
def test_a_changed_file_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, damage: bytes
) -> None:
    engine = write_engine(tmp_path)
    engine.write_bytes(damage)
    with pytest.raises(EngineError) as caught:
        check_files(load_manifest(engine), tmp_path)
    text = str(caught.value)
    assert str(engine) in text
    assert hashlib.sha256(damage).hexdigest() in text
    assert hashlib.sha256(CONTENT).hexdigest() in text
    assert "bifocus export base.safetensors -o DIR --to onnx --precision fp32" in text


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    engine = write_engine(tmp_path)
    engine.unlink()
    with pytest.raises(EngineError, match="No such file"):
        check_files(load_manifest(engine), tmp_path)
    with pytest.raises(EngineError, match="has no file 'other'"):
        read_checked(manifest(), tmp_path, "other")


def test_a_missing_or_damaged_manifest_is_refused(tmp_path: Path) -> None:
    engine = write_engine(tmp_path)
    path = manifest_path(engine)
    whole = path.read_text()
    for text in (whole[:100], "[]", "{}", whole.replace("stride_px", "strid_px")):
        path.write_text(text)
        with pytest.raises(EngineError, match="not a manifest of this version"):
            load_manifest(engine)
    path.unlink()
    with pytest.raises(EngineError, match="no such manifest"):
        load_manifest(engine)


@pytest.mark.parametrize("name", ["/etc/passwd", "../weights", "a/../../b"])
def test_a_file_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = manifest_path(write_engine(tmp_path))
    document = json.loads(path.read_text())
    document["files"] = {name: "0" * 64}
    path.write_text(json.dumps(document))
    with pytest.raises(EngineError, match="leaves the manifest's folder"):
        load_manifest(path)


def test_an_unverified_engine_is_refused() -> None:
    check_verified(manifest())
    with pytest.raises(EngineError, match="not been passed yet"):
        check_verified(manifest(verified=False))
    with pytest.raises(EngineError, match="failed in ONNX Runtime"):
        check_verified(manifest(verified=False, parity=(report(passed=False),)))


def test_the_trained_range_scales_with_the_depth_of_field() -> None:
    check_trained_range(manifest(), na=0.75, pixel_um=0.25, half_spacing_um=0.75)
    # At NA 0.4 the depth of field is 3.5 times as large, the Airy disk 1.9 times.
    check_trained_range(manifest(), na=0.4, pixel_um=0.47, half_spacing_um=2.6)
    with pytest.raises(EngineError, match=r"half_spacing_um is 0.75, trained for 1.41"):
        check_trained_range(manifest(), na=0.4, pixel_um=0.47, half_spacing_um=0.75)
    with pytest.raises(EngineError, match=r"na is 0.25, trained for 0.4 to 0.95"):
        check_trained_range(manifest(), na=0.25, pixel_um=0.47, half_spacing_um=2.6)
    untold = manifest(trained=None)
    check_trained_range(untold, na=0.1, pixel_um=9.0, half_spacing_um=99.0)


def test_a_fixed_size_takes_no_other() -> None:
    check_size(manifest(), 77, 33)
    fixed = manifest(height_px=1024, width_px=1224)
    check_size(fixed, 1024, 1224)
    with pytest.raises(EngineError, match=r"1224x1024 px, got 1024x1224.*--tile 1024"):
        check_size(fixed, 1224, 1024)


def test_hashes_are_those_of_the_published_test_vector(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_files(tmp_path, ("abc",)) == {"abc": expected}
    with pytest.raises(EngineError, match="No such file"):
        hash_files(tmp_path, ("none",))
