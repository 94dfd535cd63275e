"""The ring of slots between callers and a TensorRT engine: upload, compute, download.

Each slot has page-locked arrays for its inputs and its output, and a CUDA graph of its
own; tables of the optics lie on the GPU once, for all slots. A picture that lies in
page-locked memory already is uploaded from there. Three streams with events
between them, so that one slot's copies run beside the other's computing. Where GPU and
CPU share their memory, as on a Jetson, the GPU works in the page-locked arrays
themselves and nothing is copied.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from bifocus.edge.cuda_graph import Recorder
from bifocus.edge.device_memory import DeviceBlock, DeviceMemory, PinnedArray
from bifocus.edge.network_inputs import NetworkForm
from bifocus.edge.small_tensors import SmallTensor
from bifocus.edge.tensorrt_slot import Slot
from bifocus.engine_manifest import TensorSpec
from bifocus.errors import EngineError, EngineLostError
from bifocus.optics_inputs import Float32
from bifocus.records import UInt8Image
from bifocus.tensorrt_api import IExecutionContext

logger = logging.getLogger(__name__)

# One is computed while the next is copied; more helps only if copies take longer.
_N_SLOTS = 2


class _Freed(Protocol):
    def free(self) -> None: ...


_T = TypeVar("_T", bound=_Freed)


class SlotRing:
    """Slots of one window size; made, started, waited for and freed by one thread.

    `fill` and `result` are for the thread that asks, between `wait` and `start`.

    Raises
    ------
    EngineLostError
        If the GPU has no memory, or fails.
    """

    def __init__(
        self,
        memory: DeviceMemory,
        context: IExecutionContext,
        form: NetworkForm,
        *,
        is_mapped: bool,
        record: Recorder,
    ) -> None:
        if form.size_px is None:
            msg = f"{form.network}: slots need a fixed size"
            raise EngineError(msg)
        self._memory = memory
        self._context: IExecutionContext | None = context
        self._form = form
        self._is_mapped = is_mapped
        self._taken: list[_Freed] = []
        self._locked: dict[int, PinnedArray] = {}
        self.n_slots = _N_SLOTS
        try:
            self._upload, self._compute, self._download = (
                self._take(memory.stream) for _ in range(3)
            )
            self._tables = [self._small(spec, start=1.0) for spec in form.tables]
            self._tables_there = self._take(memory.event)
            self._upload_tables()
            self._slots = [
                self._make_slot((1, *form.size_px, 3)) for _ in range(_N_SLOTS)
            ]
            for slot in self._slots:
                self._warm_up(slot, record)
        except BaseException:
            with suppress(EngineLostError):  # the first failure is the one to tell
                self.free()
            raise

    @property
    def notes(self) -> str:
        """What the report should tell of how it runs."""
        parts = ["zero-copy"] if self._is_mapped else []
        if all(slot.graph is not None for slot in self._slots):
            parts.append("CUDA graph")
        return "".join(f", {part}" for part in parts)

    def lock(self, arrays: Sequence[UInt8Image]) -> None:
        """Page-lock the arrays in which pictures will come, instead of those of before.

        Where CUDA refuses, and where nothing is copied to the GPU anyhow, pictures are
        copied into the slots as others are. In its own thread, no slot in flight.
        """
        self._unlock()
        if self._is_mapped:
            return
        try:
            for array in arrays:
                pinned = self._memory.lock(array)
                self._locked[pinned.array.ctypes.data] = pinned
        except EngineLostError as error:
            logger.info("frames are not page-locked: %s", error)
            self._unlock()

    def fill(self, number: int, window: Mapping[str, UInt8Image]) -> None:
        """Write a window's pictures into a free slot, or keep them to be uploaded."""
        slot = self._slots[number]
        for name, own in slot.inputs.items():
            picture = window[name]
            locked = self._locked.get(picture.ctypes.data)
            if (
                locked is not None
                and picture.flags.c_contiguous
                and picture.nbytes == own.array.nbytes
            ):
                slot.sources[name] = locked
            else:
                slot.sources[name] = own
                own.array[0] = picture
        # Whoever lent the pictures gets them back when the GPU has read them.
        slot.held = window

    def set_tables(self, tables: Mapping[str, Float32]) -> None:
        """Bring the optics to the GPU, in its own thread, with no slot in flight."""
        for table in self._tables:
            table.array[...] = tables[table.name]
        self._upload_tables()

    def numbers(self, number: int) -> dict[str, Float32]:
        """Return what the slot gave beside its picture, after `wait`."""
        small = self._slots[number].numbers
        return {tensor.name: tensor.array.copy() for tensor in small}

    def result(self, number: int) -> UInt8Image:
        """Return the slot's output, (rows, columns, 3), after `wait`."""
        pixels: UInt8Image = self._slots[number].output.array[0]
        return pixels

    def start(self, number: int) -> None:
        """Queue a filled slot."""
        slot = self._slots[number]
        for name, block in slot.input_blocks.items():
            self._memory.copy(block, slot.sources[name], self._upload)
        if slot.input_blocks:
            self._upload.record(slot.uploaded)
            self._compute.wait_for(slot.uploaded)
        if slot.graph is not None:
            slot.graph.launch()
        else:
            self._execute(slot)
        last = self._compute
        if slot.output_block is not None:
            self._compute.record(slot.computed)
            self._download.wait_for(slot.computed)
            self._memory.copy(slot.output, slot.output_block, self._download)
            for tensor in slot.numbers:
                tensor.download(self._download)
            last = self._download
        last.record(slot.done)

    def wait(self, number: int) -> None:
        """Wait until the slot's output is there."""
        slot = self._slots[number]
        slot.done.synchronize()
        slot.held = None

    def free(self) -> None:
        """Give everything back, the last taken first, and forget the context."""
        self._context = None
        self._unlock()
        while self._taken:
            self._taken.pop().free()

    def _unlock(self) -> None:
        while self._locked:
            self._locked.popitem()[1].free()

    def _take(self, make: Callable[[], _T]) -> _T:
        thing = make()
        self._taken.append(thing)
        return thing

    def _small(self, spec: TensorSpec, *, start: float) -> SmallTensor:
        return SmallTensor(
            spec, self._memory, self._take, is_mapped=self._is_mapped, start=start
        )

    def _upload_tables(self) -> None:
        if not self._tables:
            return
        for table in self._tables:
            table.upload(self._upload)
        self._upload.record(self._tables_there)
        self._tables_there.synchronize()

    def _make_slot(self, shape: tuple[int, ...]) -> Slot:
        memory, form, mapped = self._memory, self._form, self._is_mapped

        def pinned() -> PinnedArray:
            return self._take(lambda: memory.pinned(shape, is_mapped=mapped))

        inputs = {name: pinned() for name in form.inputs}
        output = pinned()
        for array in (*inputs.values(), output):
            array.array[...] = 0
        blocks: dict[str, DeviceBlock] = {}
        output_block = None
        if not mapped:
            n_bytes = output.array.nbytes
            blocks = {
                name: self._take(lambda: memory.device(n_bytes)) for name in inputs
            }
            output_block = self._take(lambda: memory.device(n_bytes))
        uploaded, computed, done = (self._take(memory.event) for _ in range(3))
        numbers = [self._small(spec, start=0.0) for spec in form.numbers]
        return Slot(
            inputs, output, blocks, output_block, numbers, uploaded, computed, done
        )

    def _warm_up(self, slot: Slot, record: Recorder) -> None:
        """Run once, since the first run loads kernels, and record the second."""
        number = self._slots.index(slot)
        self.start(number)
        self.wait(number)
        graph = record(self._compute.handle, lambda: self._execute(slot))
        if graph is not None:
            slot.graph = graph
            self._taken.append(graph)

    def _execute(self, slot: Slot) -> None:
        context = self._context
        if context is None:
            msg = f"{self._form.network}: the slots are freed"
            raise EngineError(msg)
        addresses = slot.addresses(self._form.output)
        addresses |= {table.name: table.address for table in self._tables}
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                msg = f"{self._form.network}: TensorRT takes no address for '{name}'"
                raise EngineLostError(msg)
        if not context.execute_async_v3(self._compute.handle):
            msg = (
                f"{self._form.network}: TensorRT could not queue the engine; start the "
                "command anew"
            )
            raise EngineLostError(msg)
