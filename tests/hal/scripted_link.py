"""A byte link that answers from a script, on a virtual clock: no firmware behind it."""

from collections import deque
from collections.abc import Callable

from bifocus.clock import VirtualClock
from bifocus.errors import LinkLostError

Answer = bytes | list[tuple[float, bytes]] | Callable[[bytes], bytes]
"""At once; or pieces, each some seconds after the command; or made from the command."""


class ScriptedLink:
    """Answers each command by the first rule that begins it; keeps what was sent.

    A rule with a list of answers uses them up one by one and keeps the last.
    """

    def __init__(self, clock: VirtualClock, rules: dict[bytes, list[Answer]]) -> None:
        self.sent: list[bytes] = []
        self.is_gone = False
        self._clock = clock
        self._rules = {key: deque(answers) for key, answers in rules.items()}
        self._due: list[tuple[float, bytes]] = []

    def say(self, data: bytes, after_s: float = 0.0) -> None:
        """Let the board say something by itself."""
        self._due.append((self._clock.monotonic_s() + after_s, data))
        self._due.sort(key=lambda item: item[0])

    def write(self, data: bytes) -> None:
        self._check()
        self.sent.append(data)
        for key, answers in self._rules.items():
            if data.startswith(key):
                answer = answers.popleft() if len(answers) > 1 else answers[0]
                self._answer(answer(data) if callable(answer) else answer)
                return

    def read(self, *, deadline_s: float) -> bytes:
        self._check()
        next_s = self._due[0][0] if self._due else deadline_s
        until_s = min(next_s, deadline_s)
        self._clock.sleep(until_s - self._clock.monotonic_s())
        return self.discard_input()

    def discard_input(self) -> bytes:
        self._check()
        now_s = self._clock.monotonic_s() + 1e-9
        ready = [data for due_s, data in self._due if due_s <= now_s]
        self._due = [item for item in self._due if item[0] > now_s]
        return b"".join(ready)

    def reopen(self) -> None:
        self._check()

    def close(self) -> None:
        self.is_gone = True

    def _answer(self, answer: bytes | list[tuple[float, bytes]]) -> None:
        pieces = [(0.0, answer)] if isinstance(answer, bytes) else answer
        for after_s, piece in pieces:
            if piece:
                self.say(piece, after_s)

    def _check(self) -> None:
        if self.is_gone:
            msg = "the scripted link is gone"
            raise LinkLostError(msg)
