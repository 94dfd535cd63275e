"""A fuser that is the first of several that works, and says why it is that one.

An engine that fails at work (a lost GPU, no memory, a server gone) stops the job, or
hands over to the next one with a record: which of the two is the user's choice.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bifocus.edge.fusers import FrameLocker, Fuser, PairReader, WholePair
from bifocus.errors import EngineError, EngineLostError
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FusedTile, UInt8Image
from bifocus.tone import ToneCurve

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An engine that may be taken.

    Attributes
    ----------
    name
        For the log: "openvino, base.xml".
    open
        Makes the fuser, or raises `EngineError`.
    is_spare
        Taken only in place of one that failed at work, never at the start.
    """

    name: str
    open: Callable[[], Fuser]
    is_spare: bool = False


class EngineChain:
    """The `Fuser` that runs, and a `PairReader`.

    Any thread may ask: pairs are read by one stage of a scan and fused by another. The
    fuser itself is given to one at a time.

    Parameters
    ----------
    candidates
        In the order of preference.
    on_failure
        `stop`: an engine that fails at work ends the job; `next`: the next one takes
        over, and `faults` says so.

    Raises
    ------
    EngineError
        If none can be opened: each with its reason.
    """

    def __init__(
        self, candidates: Sequence[Candidate], on_failure: Literal["stop", "next"]
    ) -> None:
        self._lock = threading.RLock()
        self._left = list(candidates)
        self._on_failure = on_failure
        self._faults: list[str] = []
        self._reasons: list[str] = []
        self._fuser: Fuser | None = None
        self._frames: tuple[UInt8Image, ...] = ()
        self._take_next(is_failure=False)

    @property
    def model(self) -> str:
        """Name of the method or network that runs."""
        return self._running.model

    @property
    def engine(self) -> str:
        """What computes it."""
        return self._running.engine

    @property
    def faults(self) -> tuple[str, ...]:
        """Every change of the engine at work, with its reason."""
        return (*self._faults, *self._running.faults)

    def check_optics(self, optics: PairOptics) -> None:
        """Take the first engine that accepts pairs of these optics.

        Raises
        ------
        EngineError
            If none does; with the last one's reason.
        """
        with self._lock:
            while True:
                try:
                    self._running.check_optics(optics)
                except EngineError as error:
                    self._refuse(str(error))
                    self._take_next(is_failure=False)
                else:
                    return

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        """Return the tile; see `bifocus.edge.fusers.Fuser`.

        Raises
        ------
        EngineLostError
            If the engine failed and there is no other, or none is wanted.
        """
        with self._lock:
            self.check_optics(measured.optics)
            while True:
                try:
                    return self._running.fuse(measured)
                except EngineLostError as error:
                    self._replace(error)

    def read(
        self,
        minus: UInt8Image,
        plus: UInt8Image,
        optics: PairOptics,
        tone_curve: ToneCurve,
    ) -> WholePair | None:
        """Return the pair, read and fused, if the engine that runs holds the physics.

        Raises
        ------
        EngineLostError
            As `fuse`.
        """
        with self._lock:
            self.check_optics(optics)
            while isinstance(running := self._running, PairReader):
                try:
                    return running.read(minus, plus, optics, tone_curve)
                except EngineLostError as error:
                    self._replace(error)
            return None

    def lock_frames(self, frames: Sequence[UInt8Image]) -> None:
        """Let the engine that runs, and each that follows it, know the frames."""
        with self._lock:
            self._frames = tuple(frames)
            self._tell_frames()

    def close(self) -> None:
        """Close the engine that runs."""
        with self._lock:
            if self._fuser is not None:
                self._fuser.close()

    @property
    def _running(self) -> Fuser:
        if self._fuser is None:
            msg = f"no engine is left: {'; '.join(self._reasons)}"
            raise EngineError(msg)
        return self._fuser

    def _replace(self, error: EngineLostError) -> None:
        failed = f"{self._running.model}, {self._running.engine}"
        if self._on_failure == "stop":
            msg = (
                f"{error}. What was captured is kept; to go on with another engine "
                "when one fails: scan.on_engine_failure: next"
            )
            raise EngineLostError(msg) from error
        self._refuse(str(error))
        self._take_next(is_failure=True)
        fault = (
            f"engine {failed} failed ({error}); {self._running.model}, "
            f"{self._running.engine} went on"
        )
        self._faults.append(fault)
        logger.warning("%s", fault)

    def _refuse(self, reason: str) -> None:
        logger.info("engine %s: not taken: %s", self._running.engine, reason)
        self._reasons.append(reason)
        self._running.close()
        self._fuser = None

    def _tell_frames(self) -> None:
        if self._frames and isinstance(self._fuser, FrameLocker):
            self._fuser.lock_frames(self._frames)

    def _take_next(self, *, is_failure: bool) -> None:
        while self._left:
            candidate = self._left.pop(0)
            if candidate.is_spare and not is_failure:
                continue
            try:
                self._fuser = candidate.open()
            except EngineError as error:
                logger.info("engine %s: not taken: %s", candidate.name, error)
                self._reasons.append(str(error))
                continue
            logger.info(
                "engine %s: runs %s on %s",
                candidate.name,
                self._fuser.model,
                self._fuser.engine,
            )
            self._tell_frames()
            return
        kind = EngineLostError if is_failure else EngineError
        raise kind("; ".join(dict.fromkeys(self._reasons)))
