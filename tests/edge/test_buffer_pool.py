"""Lent memory comes back with its last reader, and never before."""

import gc
import random
import threading
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.edge.buffer_pool import BufferPool
from bifocus.edge.loop_buffers import LoopBuffers
from bifocus.errors import EngineError
from bifocus.pair_spectra import compute_spectra

POISON = 0xDB


class PoisonPool(BufferPool[np.uint8]):
    """Spoils an array the moment it comes back: whoever still reads it will see it."""

    def _take_back(self, number: int) -> None:
        self.arrays[number].fill(POISON)
        super()._take_back(number)


def make(count: int = 2, **options: Any) -> PoisonPool:
    return PoisonPool("frames", (4, 6, 3), np.uint8, count, **options)


def test_an_array_comes_back_with_the_last_view_of_it() -> None:
    pool = make(1)
    array = pool.lend()
    array.fill(7)
    part = array[1:3, ::2][..., 0].T
    del array
    assert pool.n_free == 0
    assert set(part.ravel().tolist()) == {7}
    del part
    assert pool.n_free == 1
    assert set(pool.arrays[0].ravel().tolist()) == {POISON}


def test_what_came_back_last_is_lent_first() -> None:
    pool = make(3)
    places = set()
    for _ in range(5):
        places.add(pool.lend().ctypes.data)
    assert len(places) == 1


def test_arrays_share_no_page_with_anything() -> None:
    pool = BufferPool("frames", (5, 7, 3), np.uint8, 4)
    starts = [array.ctypes.data for array in pool.arrays]
    assert all(start % 4096 == 0 for start in starts)
    assert len({start // 4096 for start in starts}) == 4


def test_whoever_wants_one_waits_until_another_reader_is_done() -> None:
    pool = make(1)
    held = [pool.lend()]
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(pool.lend().size))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    held.clear()
    waiting.join(5)
    assert found == [4 * 6 * 3]


def test_who_must_not_wait_gets_a_new_one_that_is_counted() -> None:
    pool = make(1)
    first, second = pool.lend_or_make(), pool.lend_or_make()
    assert (pool.n_free, pool.n_beyond) == (0, 1)
    assert second.shape == first.shape
    del second
    assert pool.n_free == 0


def test_a_pool_that_stays_empty_says_so() -> None:
    pool = make(1, stalled_after_s=0.02)
    held = pool.lend()
    with pytest.raises(EngineError, match=r"no buffer for frames .* 0\.02 s"):
        pool.lend()
    assert held.shape == (4, 6, 3)


def test_closing_sends_away_those_who_wait_and_spoils_nothing() -> None:
    pool = make(1)
    held = pool.lend()
    held.fill(9)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            pool.lend()
        except CancelledError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    pool.close()
    waiting.join(5)
    assert len(errors) == 1
    assert set(held.ravel().tolist()) == {9}


def test_an_error_on_the_way_brings_the_array_back() -> None:
    pool = make(1)

    def fuse() -> None:
        array = pool.lend()
        msg = f"{array.size} bytes in vain"
        raise EngineError(msg)

    with pytest.raises(EngineError, match="in vain"):
        fuse()
    gc.collect()  # the error held its frames, and they the array
    assert pool.n_free == 1


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 4))
def test_no_order_of_readers_spoils_an_array(steps: list[int], count: int) -> None:
    """Lend, look from several sides, let go, in any order: each sees its own value."""
    pool = make(count)
    held: list[tuple[int, Any]] = []
    array = view = None
    for value, step in enumerate(steps):
        if step < 3 and pool.n_free:
            array = pool.lend()
            array.fill(value)
            held.append((value, array))
        elif step == 3 and held:
            held.append((held[0][0], held[0][1][::2]))
        elif held:
            held.pop(step % len(held))
        for expected, view in held:
            assert set(view.ravel().tolist()) == {expected}
    held.clear()
    array = view = None
    assert pool.n_free == count


def test_threads_that_pass_arrays_on_never_see_a_spoilt_one() -> None:
    pool = make(4)
    rng = random.Random(3)
    spoilt: list[int] = []

    def read(array: Any, value: int) -> None:
        if set(array.ravel().tolist()) != {value}:
            spoilt.append(value)

    readers: list[threading.Thread] = []
    for value in range(200):
        array = pool.lend()
        array.fill(value % 200)
        views = [array, array[1:], array[:, ::2]][: rng.randint(1, 3)]
        for view in views:
            readers.append(threading.Thread(target=read, args=(view, value % 200)))
            readers[-1].start()
        del array, views, view
        readers = [reader for reader in readers if reader.is_alive()]
    for reader in readers:
        reader.join()
    assert spoilt == []
    gc.collect()
    assert pool.n_free == 4


def test_the_loops_spectra_fit_their_memory() -> None:
    buffers = LoopBuffers((160, 96))
    light = np.random.default_rng(0).random((96, 160, 3), dtype=np.float32)
    lent = compute_spectra(light, light[::-1], buffers.spectra.lend())
    np.testing.assert_array_equal(
        lent.spectra, compute_spectra(light, light[::-1]).spectra
    )
    assert buffers.spectra.n_free == 1
    del lent
    assert buffers.spectra.n_free == 2
