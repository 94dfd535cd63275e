"""docs/gpu.md from the JSON of bench/gpu_check.py: what was measured, what was not."""

from collections.abc import Iterator
from typing import Any

_PARITY = ("max", "differing", "psnr_db")
_TIMES = ("p50_ms", "p95_ms", "p99_ms")
_SHARES = ("roofline_share", "matmul_share")
_WORDS = {
    "max": "max",
    "differing": "differing",
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
_HEAD = """\
# On a GPU

Made by `python bench/gpu_check.py` and
`python bench/gpu_check.py --render gpu_check.json docs/gpu.md`; do not edit. Run it on
any machine with an NVIDIA GPU and torch: it needs no installation of bifocus, takes
some minutes, and says for each item what it measured, or why it did not run.

A tile is 1224x1024x3 bytes in and out. Parity is against float32 on the processor:
greatest difference in grey levels, share of values that differ, PSNR between the two.
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
    if key in ("differing", *_SHARES):
        return f"{100 * value:.2g} %"
    return f"{value:.3g}"


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
