"""docs/gpu.md from the JSON of bench/gpu_check.py: what was measured, what was not."""

from collections.abc import Iterator
from typing import Any

_PARITY = ("max", "differing", "differing_px", "psnr_db")
_TIMES = ("p50_ms", "p95_ms", "p99_ms")
_SHARES = ("roofline_share", "matmul_share")
_WORDS = {
    "max": "max",
    "differing": "of the values",
    "differing_px": "of the pixels",
    "psnr_db": "PSNR dB",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "period_p50_ms": "period p50 ms",
    "period_p99_ms": "period p99 ms",
    "gmac": "GMAC",
    "roofline_share": "of the roofline",
    "matmul_share": "of the product",
    "build_s": "build s",
    "engine_mb": "engine MB",
    "tflop_per_s": "TFLOP/s, float16",
    "gb_per_s": "GB/s",
    "is_graph": "CUDA graph",
}
_TABLES = (
    ("The GPU itself", ("ceiling",), ("tflop_per_s", "gb_per_s")),
    (
        "Networks in half precision",
        ("network",),
        (*_PARITY, *_TIMES, "gmac", *_SHARES, "is_graph"),
    ),
    (
        "Physics, and the whole fusion",
        ("physics", "fusion"),
        (*_PARITY, *_TIMES, "is_graph"),
    ),
    ("The loop's way", ("loop",), ("max", *_TIMES, "period_p50_ms", "period_p99_ms")),
    (
        "TensorRT engines",
        ("tensorrt", "tensorrt_rtx"),
        (*_PARITY, *_TIMES, "build_s", "engine_mb"),
    ),
)
# What the project wants of an H200: item, figure, bound, whether at most or at least.
_GOALS = (
    ("loop:whole-fusion", "period_p50_ms", 2.0, "<="),
    ("network:base", "roofline_share", 0.5, ">="),
    ("network:tsva", "p50_ms", 12.0, "<="),
    ("network:base", "max", 1.0, "<="),
    ("network:base", "differing_px", 0.01, "<="),
    ("network:base", "psnr_db", 65.0, ">="),
    ("network:tsva", "max", 1.0, "<="),
    ("network:tsva", "differing_px", 0.01, "<="),
    ("network:tsva", "psnr_db", 65.0, ">="),
)
_HEAD = """\
# On a GPU

Made by `python bench/gpu_check.py` and
`python bench/gpu_check.py --render gpu_check.json docs/gpu.md`; do not edit. Run it on
any machine with an NVIDIA GPU, torch, numpy, scipy and opencv-python-headless: it needs
no installation of bifocus, takes some minutes, and says for each item what it measured,
or why it did not run. Stopped, it keeps what ran; `--resume` goes on.

A tile is 1224x1024x3 bytes in and out. Parity is against float32 on the processor:
greatest difference in grey levels, shares of values and of pixels that differ, PSNR.
The roofline of a network is the sum over its convolutions of the longer of two times:
its operations at the rate of one large float16 product measured there, and its bytes at
the rate of one large copy.
"""


def render_page(document: dict[str, Any]) -> str:
    """Return the page.

    Parameters
    ----------
    document
        What `bench/gpu_check.py` wrote: `machine` and `items`.
    """
    machine, items = document["machine"], document["items"]
    parts = [_HEAD, "\n".join(_machine(machine, items))]
    for title, kinds, columns in _TABLES:
        chosen = [item for item in items if item["name"].partition(":")[0] in kinds]
        parts.append("\n".join([f"## {title}", "", *_rows(chosen, columns)]))
    parts.append("\n".join(_goals(items)))
    parts.append("\n".join(_not_run(items)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _machine(machine: dict[str, str], items: list[dict[str, Any]]) -> Iterator[str]:
    is_gpu = "compute_capability" in machine
    if not is_gpu:
        yield (
            "**Nothing on this page has run on a GPU yet.** The script ran on a "
            f"machine whose device was: {machine['device']}."
        )
        yield ""
    facts = ", ".join(f"{key} {value}" for key, value in sorted(machine.items()))
    done = sum(item["state"] == "ok" for item in items)
    yield f"Machine: {facts}. Items that ran: {done} of {len(items)}."


def _rows(items: list[dict[str, Any]], columns: tuple[str, ...]) -> Iterator[str]:
    """Yield a table of what ran; an item that did not has its state instead."""
    shown = [
        key for key in columns if any(key in item["figures"] for item in items)
    ] or list(columns[:1])
    yield "| | " + " | ".join(_WORDS[key] for key in shown) + " |"
    yield "|---|" + "---|" * len(shown)
    for item in items:
        if item["state"] == "ok":
            cells = [_cell(key, item["figures"].get(key)) for key in shown]
        else:
            state = {"not run": "not yet run on a GPU", "failed": "failed"}
            cells = [state[item["state"]]] + [""] * (len(shown) - 1)
        yield f"| {item['name']} | " + " | ".join(cells) + " |"


def _cell(key: str, value: float | None) -> str:
    if value is None:
        # PSNR is left out where not one value differs.
        return "equal" if key == "psnr_db" else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key in ("differing", "differing_px", *_SHARES):
        return f"{100 * value:.2g} %"
    return f"{value:.3g}"


def _goals(items: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Goals, stated for an H200"
    yield ""
    yield "| item | figure | goal | measured | reached |"
    yield "|---|---|---|---|---|"
    figures = {item["name"]: item["figures"] for item in items}
    for name, key, bound, way in _GOALS:
        found = figures.get(name, {})
        shown, reached = "not yet run", ""
        if found:
            # No PSNR is told of pictures that are equal.
            value = found.get(key, float("inf") if key == "psnr_db" else None)
            shown = _cell(key, found.get(key))
            if value is not None:
                is_reached = value <= bound if way == "<=" else value >= bound
                reached = "yes" if is_reached else "NO"
        goal = f"{way} {_cell(key, bound)}"
        yield f"| {name} | {_WORDS[key]} | {goal} | {shown} | {reached} |"


def _not_run(items: list[dict[str, Any]]) -> Iterator[str]:
    yield "## What did not run, and why"
    yield ""
    rest = [item for item in items if item["state"] != "ok"]
    if not rest:
        yield "Everything ran."
    by_reason: dict[str, list[str]] = {}
    for item in rest:
        by_reason.setdefault(f"{item['state']}: {item['reason']}", []).append(
            item["name"]
        )
    for reason, names in by_reason.items():
        yield f"- {', '.join(names)}: {reason}"
