"""Run ashlar's own command line; also tell where it has put each tile, as JSON."""

import json
import sys
from pathlib import Path

from ashlar import reg
from ashlar.scripts import ashlar

_run = reg.EdgeAligner.run


def run_and_tell(aligner: reg.EdgeAligner) -> None:
    """Do what ashlar does, then write (row, column, x_px, y_px) of every tile."""
    _run(aligner)
    cells = [aligner.metadata.tile_rc(i) for i in range(len(aligner.positions))]
    places = [
        (int(row), int(column), float(x_px), float(y_px))
        for (row, column), (y_px, x_px) in zip(cells, aligner.positions, strict=True)
    ]
    Path(sys.argv[1]).write_text(json.dumps(places))


reg.EdgeAligner.run = run_and_tell
sys.exit(ashlar.main(["ashlar", *sys.argv[2:]]))
