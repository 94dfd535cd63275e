"""How many threads a network gets on the CPU beside a running scan."""

import os


def count_threads() -> int:
    """Return the cores of this process but one, which is left to the capture."""
    return max(1, len(os.sched_getaffinity(0)) - 1)
