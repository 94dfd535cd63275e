"""Speed and memory of the parts, one row each; `bifocus bench` prints them.

Each part runs in a process of its own, so that its peak memory (Python and libraries
included) is its own too.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from bifocus.bench_engines import bench_fusers
from bifocus.bench_loop import bench_loop
from bifocus.bench_rows import Row
from bifocus.bench_stitch import bench_stitch
from bifocus.bench_writer import bench_writer
from bifocus.errors import ConfigError, EngineError

PARTS = ("fuse", "stitch", "writer", "loop")


def run_benchmarks(parts: Sequence[str], model: str = "auto") -> list[Row]:
    """Run each part in a fresh process; an empty sequence means all parts.

    Parameters
    ----------
    parts
        Out of `PARTS`.
    model
        Of the part `fuse`: its files are measured in each engine that runs them here.

    Raises
    ------
    ConfigError
        If there is no such part.
    EngineError
        If a part fails, with what it printed.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        msg = f"no benchmark '{unknown[0]}'; choose from {', '.join(PARTS)}"
        raise ConfigError(msg)
    rows: list[Row] = []
    for part in parts or PARTS:
        if part == "fuse":
            rows += bench_fusers(model)
            continue
        done = subprocess.run(
            [sys.executable, "-m", "bifocus.bench", part],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            msg = f"benchmark '{part}' failed: {done.stderr.strip()[-2000:]}"
            raise EngineError(msg)
        rows += [Row(**row) for row in json.loads(done.stdout)]
    return rows


_BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "stitch": bench_stitch,
    "writer": bench_writer,
    "loop": bench_loop,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(row) for row in _BENCHMARKS[sys.argv[1]]()]))
