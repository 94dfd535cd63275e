"""A GPU that does nothing before it must, and tells of every misuse.

Work waits in its stream until somebody waits for an event behind it; so a result that
is read too early is poison, and a slot that is written too early spoils its own copy.
Order between streams is followed by what each operation is known to come after (its
stream, the events it waited for, what the host waited for): a read or write that is
not ordered after the last one is a misuse, whether or not it would have gone wrong.
Used from a second thread, freed while in use, left behind at the end: misuse as well.
"""

import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

POISON = 0xDB
PAGE_BYTES = 4096


class MisuseError(AssertionError):
    """The code under test broke a rule of CUDA."""


class SimulatedCudaError(Exception):
    """CUDA refuses; the argument is its name for the error."""


@dataclass(eq=False)
class Allocation:
    kind: str
    memory: Any
    writer: int | None = None
    readers: set[int] = field(default_factory=set)
    is_live: bool = True

    @property
    def address(self) -> int:
        return int(self.memory.ctypes.data)

    def is_locked_in(self, start: int, end: int) -> bool:
        """Whether it shares a page with the bytes from `start` to `end`."""
        first = self.address // PAGE_BYTES
        last = (self.address + self.memory.nbytes - 1) // PAGE_BYTES
        return first <= (end - 1) // PAGE_BYTES and start // PAGE_BYTES <= last

    def checksum(self) -> int:
        return zlib.crc32(self.memory)


@dataclass(eq=False)
class Operation:
    number: int
    name: str
    known: frozenset[int]
    reads: list[Allocation]
    writes: list[Allocation]
    run: Callable[[], None]
    sums: list[tuple[Allocation, int]]
    is_done: bool = False


@dataclass(eq=False)
class Queue:
    """A stream."""

    handle: int
    known: frozenset[int] = frozenset()
    recording: list[tuple[Any, ...]] | None = None


@dataclass(eq=False)
class Mark:
    """An event."""

    known: frozenset[int] | None = None


class SimulatedGpu:
    """The state behind both fake CUDA libraries and the fake TensorRT.

    Attributes
    ----------
    calls
        Names of all calls, in order.
    failures
        Name of a call -> (at which of its calls, CUDA's name for the error). After the
        failure of a copy, a launch or a wait every call gives that error, as CUDA's do.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: dict[str, tuple[int, str]] = {}
        self.launches = 0
        self._sticky: str | None = None
        self._thread: int | None = None
        self._operations: list[Operation] = []
        self._host_known: frozenset[int] = frozenset()
        self._live: list[Any] = []
        self._addresses: dict[int, Allocation] = {}
        self._handles = 1000

    def enter(self, call: str) -> None:
        """Note a call; fail where that was asked for."""
        here = threading.get_ident()
        self._thread = self._thread or here
        if self._thread != here:
            raise MisuseError(f"{call} from a second thread")
        self.calls.append(call)
        if self._sticky:
            raise SimulatedCudaError(self._sticky)
        nth, error = self.failures.get(call, (0, ""))
        if nth and self.calls.count(call) == nth:
            if call in ("copy", "launch", "synchronize"):
                self._sticky = error
            raise SimulatedCudaError(error)

    def allocate(self, kind: str, n_bytes: int) -> Allocation:
        self.enter(f"allocate {kind}")
        made = Allocation(kind, np.full(n_bytes, POISON, np.uint8))
        self._live.append(made)
        self._addresses[made.address] = made
        return made

    def register(self, memory: Any) -> Allocation:
        """Page-lock memory that is there: whole pages that nothing else is in."""
        self.enter("register")
        known = [live for live in self._live if isinstance(live, Allocation)]
        start, end = memory.ctypes.data, memory.ctypes.data + memory.nbytes
        if start % PAGE_BYTES:
            raise MisuseError(f"{start:#x} is not the start of a page")
        for other in known:
            if other.kind == "host" and other.is_locked_in(start, end):
                raise MisuseError("a page is locked twice")
        made = Allocation("host", memory)
        self._live.append(made)
        self._addresses[made.address] = made
        return made

    def find(self, address: int) -> Allocation:
        found = self._addresses.get(address)
        if found is None or not found.is_live:
            raise MisuseError(f"no memory at {address:#x}, or freed")
        return found

    def free(self, thing: Any) -> None:
        self.enter("free")
        if not any(thing is live for live in self._live):
            raise MisuseError("freed twice")
        if isinstance(thing, Allocation):
            users = [
                operation.name
                for operation in self._operations
                if not operation.is_done
                and thing in (*operation.reads, *operation.writes)
            ]
            if users:
                raise MisuseError(f"freed while {users[0]} still needs it")
            thing.is_live = False
        self._live.remove(thing)

    def stream(self) -> Queue:
        self.enter("stream")
        self._handles += 1
        made = Queue(self._handles)
        self._live.append(made)
        return made

    def event(self) -> Mark:
        self.enter("event")
        made = Mark()
        self._live.append(made)
        return made

    def keep_graph(self, recorded: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        self.enter("graph")
        self._live.append(recorded)
        return recorded

    def queue_of(self, handle: int) -> Queue:
        for thing in self._live:
            if isinstance(thing, Queue) and thing.handle == handle:
                return thing
        raise MisuseError(f"no stream {handle}")

    def record(self, mark: Mark, queue: Queue) -> None:
        self.enter("record")
        mark.known = queue.known

    def wait(self, queue: Queue, mark: Mark) -> None:
        self.enter("wait")
        if mark.known is None:
            raise MisuseError("waits for an event that was never recorded")
        queue.known |= mark.known

    def synchronize(self, mark: Mark) -> None:
        """Run what is before the mark, and nothing else."""
        self.enter("synchronize")
        if mark.known is None:
            raise MisuseError("synchronises an event that was never recorded")
        for operation in self._operations:
            if operation.number in mark.known and not operation.is_done:
                self._run(operation)
        self._host_known |= mark.known

    def copy(self, target: int, source: int, n_bytes: int, queue: Queue) -> None:
        self.enter("copy")
        to, from_ = self.find(target), self.find(source)
        if {to.kind, from_.kind} != {"host", "device"}:
            raise MisuseError(f"copy from {from_.kind} to {to.kind}")
        if n_bytes > min(to.memory.size, from_.memory.size):
            raise MisuseError("copy beyond the end")

        def run() -> None:
            to.memory[:n_bytes] = from_.memory[:n_bytes]

        self._queue("copy", queue, [from_], [to], run)

    def launch(
        self,
        handle: int,
        reads: Iterable[int],
        writes: Iterable[int],
        compute: Callable[[list[Any]], list[Any]],
    ) -> None:
        """Queue a kernel, or record it where the stream is being recorded."""
        self.enter("launch")
        queue = self.queue_of(handle)
        work = (list(reads), list(writes), compute)
        if queue.recording is not None:
            queue.recording.append(work)
            return
        self.launch_recorded(queue, [work])

    def launch_recorded(self, queue: Queue, recorded: list[tuple[Any, ...]]) -> None:
        for read_at, write_at, compute in recorded:
            reads = [self.find(address) for address in read_at]
            writes = [self.find(address) for address in write_at]

            def run(
                reads: list[Allocation] = reads,
                writes: list[Allocation] = writes,
                compute: Callable[[list[Any]], list[Any]] = compute,
            ) -> None:
                self.launches += 1
                results = compute([part.memory for part in reads])
                for part, result in zip(writes, results, strict=True):
                    part.memory[:] = result.reshape(-1)

            self._queue("launch", queue, reads, writes, run)

    def check_closed(self) -> None:
        """Nothing is left, nothing was queued in vain."""
        if self._live:
            kinds = sorted(
                part.kind if isinstance(part, Allocation) else type(part).__name__
                for part in self._live
            )
            raise MisuseError(f"leaked: {kinds}")

    def _queue(
        self,
        name: str,
        queue: Queue,
        reads: list[Allocation],
        writes: list[Allocation],
        run: Callable[[], None],
    ) -> None:
        known = queue.known | self._host_known
        number = len(self._operations)
        for part in reads:
            if part.writer is not None and part.writer not in known:
                raise MisuseError(f"{name} reads {part.kind} memory before its event")
        for part in writes:
            before = part.readers | (
                {part.writer} if part.writer is not None else set()
            )
            if not before <= known:
                raise MisuseError(f"{name} writes {part.kind} memory still in use")
        for part in reads:
            part.readers.add(number)
        for part in writes:
            part.writer, part.readers = number, set()
            if part.kind == "host":
                part.memory[:] = POISON
        sums = [
            (part, part.checksum()) for part in (*reads, *writes) if part.kind == "host"
        ]
        self._operations.append(
            Operation(number, name, known, reads, writes, run, sums)
        )
        queue.known = known | {number}

    def _run(self, operation: Operation) -> None:
        for part, checksum in operation.sums:
            if part.checksum() != checksum:
                raise MisuseError(f"a slot was written while {operation.name} had it")
        operation.run()
        operation.is_done = True
