"""Frames in page-locked memory of the loop: fetched from there, and never too late."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="stands in for the kernels")

from bifocus.edge.buffer_pool import BufferPool
from bifocus.edge.tensorrt_slots import SlotRing
from bifocus.edge.whole_fuser import WholeFuser
from bifocus.errors import EngineLostError
from bifocus.focal_offset import PairOptics
from bifocus.optics_inputs import transfer_inputs
from bifocus.pair_spectra import SMALL_BLOCKS
from bifocus.physics_fusion import MeasuredPair
from tests.edge.simulated_tensorrt import GPU, WholeTensorRT
from tests.edge.test_tensorrt_fuser import ADAPTERS, Bench, make_bench
from tests.edge.test_whole_fuser import check_tile, open_whole
from tests.edge.whole_files import (
    NUMBERS,
    OPTICS,
    SIZE_PX,
    WIDER,
    expected_fusion,
    whole_pair,
)


@pytest.fixture(params=ADAPTERS)
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    made = make_bench(tmp_path, monkeypatch, request.param)
    made.trt = WholeTensorRT(made.gpu)
    return made


def lent_pair(pool: BufferPool[np.uint8], optics: PairOptics) -> MeasuredPair:
    """The pair of `whole_pair` in lent memory, as a scan's camera writes it."""
    measured = whole_pair(optics)
    minus, plus = pool.lend(), pool.lend()
    minus[...], plus[...] = measured.minus, measured.plus
    return dataclasses.replace(measured, minus=minus, plus=plus)


def test_frames_are_uploaded_from_where_the_camera_wrote_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is copied on the way; the simulated GPU tells of every misuse."""
    pool = BufferPool("frames", (*SIZE_PX, 3), np.uint8, 4)
    fuser = WholeFuser(open_whole(bench))
    fuser.lock_frames(pool.arrays)
    assert bench.gpu.calls.count("register") == 4
    sources = []
    copy = bench.gpu.copy

    def note(target: int, source: int, n_bytes: int, queue: Any) -> None:
        sources.append(source)
        copy(target, source, n_bytes, queue)

    monkeypatch.setattr(bench.gpu, "copy", note)
    frames = {array.ctypes.data for array in pool.arrays}
    for optics in (OPTICS, WIDER, OPTICS):
        pair = lent_pair(pool, optics)
        check_tile(fuser.fuse(pair), whole_pair(optics))
        # Two shots up; picture and numbers come down.
        n_down = 1 + len(NUMBERS)
        assert frames.issuperset(sources[-2 - n_down : -n_down])
        del pair
    assert pool.n_free == 4
    sources.clear()
    check_tile(fuser.fuse(whole_pair()), whole_pair())  # such as is read from the disk
    assert frames.isdisjoint(sources)
    fuser.close()
    bench.gpu.check_closed()
    assert pool.lend().shape == (*SIZE_PX, 3)


def test_frames_stay_lent_until_the_gpu_has_read_them(bench: Bench) -> None:
    """Nobody but the slots holds the frames of the windows that are in flight."""
    pool = BufferPool("frames", (*SIZE_PX, 3), np.uint8, 6)
    engine = open_whole(bench)
    engine.lock_frames(pool.arrays)
    engine.set_tables(transfer_inputs(OPTICS, SMALL_BLOCKS.block_px))
    n_free: list[int] = []
    wait = SlotRing.wait

    def watch(ring: SlotRing, number: int) -> None:
        n_free.append(pool.n_free)
        wait(ring, number)

    def windows() -> Iterator[dict[str, Any]]:
        for _ in range(3):
            pair = lent_pair(pool, OPTICS)
            yield {"minus": pair.minus, "plus": pair.plus}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlotRing, "wait", watch)
        expected = expected_fusion(whole_pair())[0]
        for pixels in engine.stream(windows()):
            np.testing.assert_array_equal(pixels, expected)
    assert n_free[0] == 0
    assert pool.n_free == 6
    engine.close()
    bench.gpu.check_closed()


def test_frames_outlast_an_engine_that_is_lost(bench: Bench) -> None:
    """The shots of the tile at hand have still to be saved."""
    pool = BufferPool("frames", (*SIZE_PX, 3), np.uint8, 2)
    fuser = WholeFuser(open_whole(bench))
    fuser.lock_frames(pool.arrays)
    pair = lent_pair(pool, OPTICS)
    nth = bench.gpu.calls.count("synchronize") + 2  # that of the tables comes first
    bench.gpu.failures["synchronize"] = (nth, "cudaErrorIllegalAddress")
    with pytest.raises(EngineLostError):
        fuser.fuse(pair)
    fuser.close()
    np.testing.assert_array_equal(pair.minus, whole_pair().minus)
    np.testing.assert_array_equal(pair.plus, whole_pair().plus)


def test_memory_that_cuda_will_not_lock_is_copied(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pool = BufferPool("frames", (*SIZE_PX, 3), np.uint8, 3)
    fuser = WholeFuser(open_whole(bench))
    bench.gpu.failures["register"] = (2, "cudaErrorNotSupported")
    fuser.lock_frames(pool.arrays)
    assert "frames are not page-locked" in caplog.text
    check_tile(fuser.fuse(lent_pair(pool, OPTICS)), whole_pair())
    fuser.close()
    bench.gpu.check_closed()


def test_the_next_scans_frames_take_the_place_of_the_last_ones(bench: Bench) -> None:
    fuser = WholeFuser(open_whole(bench))
    for _ in range(2):
        pool = BufferPool("frames", (*SIZE_PX, 3), np.uint8, 3)
        fuser.lock_frames(pool.arrays)
        check_tile(fuser.fuse(lent_pair(pool, OPTICS)), whole_pair())
    fuser.close()
    bench.gpu.check_closed()


def test_memory_shared_with_the_gpu_is_not_locked(bench: Bench) -> None:
    device = dataclasses.replace(GPU, is_integrated=True)
    pool = BufferPool("frames", (*SIZE_PX, 3), np.uint8, 2)
    fuser = WholeFuser(open_whole(bench, device=device))
    fuser.lock_frames(pool.arrays)
    assert "register" not in bench.gpu.calls
    check_tile(fuser.fuse(lent_pair(pool, OPTICS)), whole_pair())
    fuser.close()
    bench.gpu.check_closed()
