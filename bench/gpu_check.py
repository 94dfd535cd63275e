"""Everything that only a GPU can tell, in one call: `python bench/gpu_check.py`.

It needs a checkout, and torch with CUDA, numpy, scipy and opencv-python-headless; what
else it finds (pycuda, cuda-bindings, TensorRT, TensorRT for RTX, onnx) it uses, and
what it does not find it says. Each item runs in a process of its own, so that a crash,
a lack of memory or a broken context hides none of the others. It prints a table and
writes `gpu_check.json`, anew after each item: whoever stops it keeps what ran, and goes
on with `--resume`;

    python bench/gpu_check.py --render gpu_check.json docs/gpu.md

makes the page of it. `--device cpu --quick` runs the arithmetic at tiny sizes on the
processor: a test of this script, not of a GPU, and the page says so.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ITEM_LIMIT_S = 240


def main() -> int:
    """Run what is asked for; the exit code is 1 if an item failed."""
    options = _parse_arguments()
    if options.render:
        from bench.gpu_page import render_page

        source, target = options.render
        document = json.loads(Path(source).read_text(encoding="utf-8"))
        Path(target).write_text(render_page(document), encoding="utf-8")
        return 0
    if options.item:
        print(json.dumps(_guarded(options.item, options)))
        return 0
    names = options.only or item_names()
    reason = _why_not(options.device)
    output, facts = Path(options.output), machine(options.device)
    known = _known(output, facts) if options.resume else {}
    waiting = "not reached: the script was stopped before; go on with --resume"
    items = [known.get(name) or _not_run(name, reason or waiting) for name in names]
    for number, name in enumerate(names):
        if not reason and name not in known:
            items[number] = _in_child(name, options)
            _write(output, facts, items)
        print(_line(items[number]), flush=True)
    _write(output, facts, items)
    print(f"written: {output}")
    return int(any(item["state"] == "failed" for item in items))


def _known(output: Path, facts: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return what ran already, by name, if it was on this machine."""
    if not output.is_file():
        return {}
    document = json.loads(output.read_text(encoding="utf-8"))
    for fact in ("device", "torch"):
        if document["machine"].get(fact) != facts.get(fact):
            there = document["machine"].get(fact)
            sys.exit(f"{output}: of another machine ({there}); choose another --output")
    return {one["name"]: one for one in document["items"] if one["state"] == "ok"}


def _write(output: Path, facts: dict[str, str], items: list[dict[str, Any]]) -> None:
    """Write the document whole: a script that is killed leaves the last one."""
    text = json.dumps({"machine": facts, "items": items}, indent=1) + "\n"
    partial = output.with_name(output.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(output)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What only a GPU can tell.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, few runs")
    parser.add_argument("--only", nargs="+", metavar="ITEM", choices=item_names())
    parser.add_argument("-o", "--output", default="gpu_check.json")
    parser.add_argument(
        "--resume", action="store_true", help="keep what ran in the file of --output"
    )
    parser.add_argument("--render", nargs=2, metavar=("JSON", "PAGE"))
    parser.add_argument("--item", choices=item_names(), help=argparse.SUPPRESS)
    return parser.parse_args()


def item_names() -> list[str]:
    """Return every item, in the order of the page."""
    # Spelled out, since torch must not be needed to say that it is missing.
    networks = (
        "fast base large base-one-shot base-late base-no-physics "
        "tsva tsva16 tsva32 unet unet-residual burst-unet"
    )
    loops = ("loop:torch", "loop:pycuda", "loop:cuda-bindings", "loop:whole-fusion")
    engines = [
        f"{flavour}:{precision}"
        for flavour in ("tensorrt", "tensorrt_rtx")
        for precision in ("fp16", "int8")
    ]
    return [
        "ceiling",
        *(f"network:{name}" for name in networks.split()),
        "physics",
        "fusion:base",
        *loops,
        *engines,
    ]


def _not_run(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "state": "not run", "reason": reason, "figures": {}}


def _in_child(name: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--item", name, "--device", options.device]
    command += ["--quick"] if options.quick else []
    start_s = time.monotonic()
    code, told, complaints = _run_apart(command)
    lines = told.strip().splitlines()
    try:
        if code is None:
            raise ValueError
        item: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        tail = " ".join(complaints.split())[-400:]
        reason = f"the process ended with code {code}: {tail}"
        if code is None:
            reason = f"no answer within {ITEM_LIMIT_S} s: {tail}"
        item = {"name": name, "state": "failed", "reason": reason, "figures": {}}
    return item | {"seconds": round(time.monotonic() - start_s, 1)}


def _run_apart(command: list[str]) -> tuple[int | None, str, str]:
    """Return exit code (None if it took too long), output and complaints."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            told, complaints = child.communicate(timeout=ITEM_LIMIT_S)
        except subprocess.TimeoutExpired:
            # With it goes what it has started: a build holds GPU and memory.
            os.killpg(child.pid, signal.SIGKILL)
            told, complaints = child.communicate()
            return None, told, complaints
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        return child.returncode, told, complaints


def _guarded(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one item here; whatever it raises is its result."""
    item: dict[str, Any] = {"name": name, "state": "ok", "reason": "", "figures": {}}
    try:
        from bench.gpu_engines import NotRunError
    except ImportError as error:
        return _not_run(name, f"needs {error.name}: {error}")
    try:
        item["figures"] = _run(name, options)
    except NotRunError as error:
        return _not_run(name, str(error))
    except ModuleNotFoundError as error:
        return _not_run(name, f"needs {error.name}, which is not installed")
    except Exception as error:  # any library's own: it is the finding
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        item |= {"state": "failed", "reason": reason}
    return item


def _run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from bench import gpu_engines, gpu_loop, gpu_networks, gpu_timing

    device = torch.device(options.device)
    kind, _, which = name.partition(":")
    scale = gpu_networks.Scale(
        tile_px=(64, 96) if options.quick else (1024, 1224),
        parity_px=(64, 96) if options.quick else (256, 256),
        count=3 if options.quick else 200,
    )
    side, copy_bytes = (128, 1 << 20) if options.quick else (8192, 1 << 30)
    if kind in ("ceiling", "network"):
        ceiling = gpu_timing.measure_ceiling(device, side=side, copy_bytes=copy_bytes)
        if kind == "ceiling":
            return {
                "tflop_per_s": ceiling.flop_per_s / 1e12,
                "gb_per_s": ceiling.byte_per_s / 1e9,
            }
        return gpu_networks.check_network(which, device, ceiling, scale)
    if kind in ("physics", "fusion"):
        return gpu_engines.check_physics(which or None, device, scale)
    if kind == "loop":
        return gpu_loop.check_loop(which, device, scale)
    if kind == "tensorrt_rtx":
        return gpu_engines.check_engine("tensorrt_rtx", which, device, scale)
    return gpu_engines.check_engine("tensorrt", which, device, scale)


def _why_not(device: str) -> str:
    """Return why nothing can run here, if so."""
    try:
        import torch
    except ImportError as error:
        return f"torch is not installed ({error})"
    if device == "cuda" and not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA GPU on this machine"
    return ""


def machine(device: str) -> dict[str, str]:
    """Return what the figures were taken on; nothing that names a user or a host."""
    facts = {
        "device": "none",
        "python": platform.python_version(),
        "processor": platform.machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    try:
        import torch
    except ImportError:
        return facts
    facts["torch"] = torch.__version__
    if device == "cpu":
        facts["device"] = "the processor"
    elif torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        facts["device"] = torch.cuda.get_device_name()
        facts["compute_capability"] = f"{major}.{minor}"
        facts["cuda"] = str(torch.version.cuda)
    return facts


def _line(item: dict[str, Any]) -> str:
    figures = "  ".join(
        f"{key} {value:.4g}"
        for key, value in item["figures"].items()
        if isinstance(value, (int, float))
    )
    return f"{item['name']:<24} {item['state']:<8} {figures or item['reason']}"


if __name__ == "__main__":
    sys.exit(main())
