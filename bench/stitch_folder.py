"""Stitch a folder of tiles as the scan's loop does, and say what the process has spent.

A program of its own, to be measured from outside beside other stitchers: registration,
solve, rendering, all levels of the slide, writing. Prints one JSON document. Run by
`bench.stitch_peers`: `python -m bench.stitch_folder FOLDER ROWS COLUMNS WIDTH HEIGHT
OVERLAP`.
"""

import json
import sys
import time
from pathlib import Path

from bifocus.bench_writer import describe_bench
from bifocus.edge.live_stitch import LiveStitcher, plan_canvas
from bifocus.edge.plan import ScanPlan, plan_scan
from bifocus.edge.registration import extract_strips
from bifocus.edge.scan_folder import ScanFolder

PIXEL_UM = 0.25


def main() -> None:
    """Stitch what the command line names."""
    start_s = time.process_time()
    root, rows, columns, width, height, overlap = sys.argv[1:]
    plan = _plan(int(rows), int(columns), (int(width), int(height)), float(overlap))
    folder = ScanFolder(Path(root))
    canvas = plan_canvas(plan)
    stitcher = LiveStitcher(
        plan,
        describe_bench(canvas.width_px, canvas.height_px),
        folder.slide,
        folder.load_fused,
    )
    for visit in plan.visits:
        strips = extract_strips(
            folder.load_fused(visit.row, visit.column),
            row=visit.row,
            column=visit.column,
            overlap_x_px=plan.overlap_px[0],
            overlap_y_px=plan.overlap_px[1],
        )
        stitcher.add(visit.row, visit.column, strips)
    placement = stitcher.finish()
    found = {
        "start_up_s": start_s,
        "places": [(t.row, t.column, t.x_px, t.y_px) for t in placement.tiles],
    }
    print(json.dumps(found))


def _plan(
    rows: int, columns: int, field_px: tuple[int, int], overlap: float
) -> ScanPlan:
    """Plan just so many tiles."""
    sides_um = [
        PIXEL_UM * side_px * (1 + (n - 1) * (1 - overlap))
        for side_px, n in zip(field_px, (columns, rows), strict=True)
    ]
    return plan_scan(
        (100.0, 100.0, sides_um[0], sides_um[1]),
        field_px=field_px,
        pixel_um=PIXEL_UM,
        overlap=overlap,
        focus_um=50.0,
    )


if __name__ == "__main__":
    main()
