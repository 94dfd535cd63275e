"""Fusion by an exported network: parity with torch, alignment, and refusals."""

from pathlib import Path

import numpy as np
import pytest

from bifocus.edge.fusers import choose_fuser
from bifocus.errors import EngineError
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import MeasuredPair, fuse_measured, measure_pair
from tests.imaging import MATCHED, shoot_incoherent
from tests.tissue import procedural_tissue

OPTICS = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75)


def measured() -> MeasuredPair:
    pair = shoot_incoherent(
        procedural_tissue(160, 3), 0.5, 0.75, MATCHED, np.random.default_rng(0)
    )
    return measure_pair(pair.minus, pair.plus, OPTICS)


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from bifocus.export.to_onnx import export_onnx
    from bifocus.model.network_registry import build_network
    from bifocus.model.receptive import halo_px

    path = tmp_path_factory.mktemp("network") / "fresh.onnx"
    network = build_network("fast", widths=(8, 16), blocks=(1, 1)).eval()
    export_onnx(network, path, name="fast", halo_px=halo_px(network))
    return path


def test_a_fresh_network_returns_the_physics_image(network_file: Path) -> None:
    # Its head starts at zero, so what it adds to the physics image is nothing.
    pair = measured()
    tile = choose_fuser(str(network_file)).fuse(pair)
    np.testing.assert_array_equal(tile.pixels, fuse_measured(pair).pixels)
    assert tile.offset == pair.offsets.tile


def test_it_says_what_it_is(network_file: Path) -> None:
    fuser = choose_fuser(str(network_file))
    assert fuser.model == "fast"
    assert fuser.engine.startswith("onnxruntime ")


def test_a_file_that_is_none_or_damaged_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(EngineError, match="no such network"):
        choose_fuser(str(tmp_path / "none.onnx"))
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a graph")
    with pytest.raises(EngineError, match="cannot load"):
        choose_fuser(str(damaged))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(EngineError, match=r"physics, or a file NAME\.onnx"):
        choose_fuser("magic")
