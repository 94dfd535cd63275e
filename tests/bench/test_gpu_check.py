"""The GPU script: its arithmetic on the processor, and a page that never overclaims.

No GPU has run this in the tests; what the page says of one comes from its JSON alone.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the GPU script measures by torch")

import torch

from bench import gpu_check, gpu_engines, gpu_loop, gpu_networks, gpu_page, gpu_timing
from bifocus.model.network_cost import compute_cost
from bifocus.model.network_registry import NETWORKS, build_network

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TINY = gpu_networks.Scale(tile_px=(32, 40), parity_px=(32, 40), count=3)
ENDLESS = 1e30


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def options(**changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"device": "cpu", "quick": True, **changes})


def test_every_network_of_the_registry_is_an_item() -> None:
    items = [name for name in gpu_check.item_names() if name.startswith("network:")]
    assert items == [f"network:{name}" for name in NETWORKS]


def test_the_roofline_counts_what_the_cost_table_counts() -> None:
    network = build_network("tsva", base=4)
    cost = compute_cost(network, height_px=64, width_px=96)
    compute_bound = gpu_timing.Ceiling(flop_per_s=1e9, byte_per_s=ENDLESS)
    seconds, flop = gpu_networks.roofline(network, (64, 96), compute_bound)
    assert flop == 2 * cost.macs
    assert seconds == pytest.approx(2 * cost.macs / 1e9)


def test_the_roofline_of_bytes_is_each_tensor_once_in_half_precision() -> None:
    network = build_network("fast", widths=(8,), blocks=(0,), shuffle=4)
    # Two convolutions at a quarter of 64x96: 3 images x 3 x 16 channels to 8, 8 to 48.
    pixels = 16 * 24
    stem = pixels * (144 + 8) + 144 * 8 * 9
    head = pixels * (8 + 48) + 8 * 48 * 9
    memory_bound = gpu_timing.Ceiling(flop_per_s=ENDLESS, byte_per_s=1e6)
    seconds, _ = gpu_networks.roofline(network, (64, 96), memory_bound)
    assert seconds == pytest.approx(2 * (stem + head) / 1e6)


def test_parity_figures_are_those_of_a_known_difference() -> None:
    expected = np.full((1, 10, 10, 3), 100, np.uint8)
    found = expected.copy()
    assert gpu_networks.compare(found, expected) == {
        "max": 0.0,
        "differing": 0.0,
        "differing_px": 0.0,
    }
    found[0, 0, 0] += 2  # 3 of 300 values: a mean square of 0.04
    figures = gpu_networks.compare(found, expected)
    assert figures["max"] == 2
    assert figures["differing"] == pytest.approx(0.01)
    assert figures["differing_px"] == pytest.approx(0.01)
    assert figures["psnr_db"] == pytest.approx(10 * np.log10(255**2 / 0.04))
    found[0, 0, 0] = 255  # bytes must not wrap around
    assert gpu_networks.compare(found, expected)["max"] == 155


def test_percentiles_are_by_rank() -> None:
    figures = gpu_timing.percentiles_ms([i / 1000 for i in range(100, 0, -1)])
    assert figures == pytest.approx({"p50_ms": 50.5, "p95_ms": 96, "p99_ms": 100})


def test_a_calm_head_corrects_by_a_twentieth() -> None:
    torch.manual_seed(1)
    network = gpu_networks.calm_head(build_network("tsva", base=4))
    with torch.no_grad():
        images = [torch.rand(1, 3, 96, 96) for _ in network.inputs]
        assert 0.03 < float(network.compute(images).std()) < 0.08


@pytest.mark.slow
def test_half_precision_keeps_within_a_level_and_the_loop_brings_it_back() -> None:
    """The loop's bytes are those of the network itself, whatever way they took."""
    ceiling = gpu_timing.Ceiling(flop_per_s=1e9, byte_per_s=1e9)
    figures = gpu_networks.check_network("fast", CPU, ceiling, TINY)
    assert figures["max"] <= 1
    assert figures["differing"] <= 0.01
    assert figures["p50_ms"] <= figures["p99_ms"]
    assert 0 < figures["matmul_share"] <= figures["roofline_share"]
    assert not figures["is_graph"]
    loop = gpu_loop.check_loop("torch", CPU, TINY)
    assert (loop["max"], loop["differing"]) == (0, 0)
    assert loop["p50_ms"] > 0
    assert loop["period_p50_ms"] > 0


@pytest.mark.slow
def test_the_whole_fusion_runs_from_two_shots() -> None:
    scale = gpu_networks.Scale(tile_px=(64, 96), parity_px=(64, 96), count=2)
    fusion = gpu_engines.WholeFusion("fast", CPU, scale)
    shots = gpu_networks.pictures(2, (64, 96), CPU)
    with torch.no_grad():
        fused = fusion(*shots)
        swapped = fusion(*reversed(shots))
    assert fused.shape == shots[0].shape
    assert fused.dtype == torch.uint8
    assert not torch.equal(fused, swapped)  # the order of the shots matters
    figures = gpu_engines.check_physics(None, CPU, scale)
    assert figures["max"] == 0  # one processor, one answer


def test_a_loop_that_takes_the_wrong_slot_is_seen() -> None:
    """The comparison in the loop is not of a thing with itself."""

    class Doubled:
        inputs = ("minus",)

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return 255 - image

    loop = gpu_loop._Loop(gpu_loop.TorchMemory(CPU), Doubled(), CPU, TINY)
    loop.run(3)
    out = loop.slots[0].out.array
    assert np.array_equal(out, 255 - loop.images[0].numpy())
    loop.slots[0].here[0].array[...] = 7
    loop.run(1)
    assert (loop.slots[0].out.array == 248).all()
    loop.free()


def test_what_an_item_raises_is_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str, _options: object) -> dict[str, Any]:
        raise RuntimeError("CUDA error:\n an illegal memory access")

    monkeypatch.setattr(gpu_check, "_run", fail)
    item = gpu_check._guarded("ceiling", options())
    assert item["state"] == "failed"
    assert item["reason"] == "RuntimeError: CUDA error: an illegal memory access"


def test_a_crash_of_one_item_is_a_line_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "crash.py"
    script.write_text("import os; os.abort()", encoding="utf-8")
    monkeypatch.setattr(gpu_check, "__file__", str(script))
    item = gpu_check._in_child("network:base", options(quick=True))
    assert item["state"] == "failed"
    assert "code -6" in item["reason"]
    assert "failed" in gpu_check._line(item)


def test_whatever_stops_the_script_what_ran_is_kept_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.json"
    asked: list[str] = []

    def run(name: str, _options: object) -> dict[str, Any]:
        asked.append(name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"name": name, "state": "ok", "reason": "", "figures": {"max": 0.0}}

    monkeypatch.setattr(gpu_check, "_in_child", run)
    command = ["gpu_check.py", "--device", "cpu", "-o", str(output)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(KeyboardInterrupt):
        gpu_check.main()
    kept = json.loads(output.read_text(encoding="utf-8"))["items"]
    assert [item["state"] for item in kept[:3]] == ["ok", "ok", "not run"]
    assert "--resume" in kept[2]["reason"]
    monkeypatch.setattr("sys.argv", [*command, "--resume"])
    assert gpu_check.main() == 0
    names = gpu_check.item_names()
    assert asked == [*names[:3], *names[2:]]
    done = json.loads(output.read_text(encoding="utf-8"))["items"]
    assert {item["state"] for item in done} == {"ok"}
    monkeypatch.setattr(gpu_check, "machine", lambda _device: {"device": "NVIDIA X"})
    with pytest.raises(SystemExit, match="of another machine"):
        gpu_check.main()


def test_an_item_that_hangs_takes_its_children_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, mark = tmp_path / "hang.py", tmp_path / "child"
    script.write_text(
        "import pathlib, subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "child = subprocess.Popen(sleep)\n"
        f"pathlib.Path({str(mark)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(gpu_check, "__file__", str(script))
    monkeypatch.setattr(gpu_check, "ITEM_LIMIT_S", 4)
    item = gpu_check._in_child("network:base", options(quick=True))
    assert item["state"] == "failed"
    assert "no answer within 4 s" in item["reason"]
    state = Path(f"/proc/{mark.read_text(encoding='utf-8')}/stat")
    deadline_s = time.monotonic() + 10
    # A signal takes its time; then it would have slept for a minute.
    while not _is_dead(state) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert _is_dead(state)


def _is_dead(state: Path) -> bool:
    """Whether a process is gone, or dead and not yet collected by the init process."""
    try:
        return ") Z " in state.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("name", [*NETWORKS, "physics"])
def test_nothing_stays_on_the_processor(name: str) -> None:
    """`meta` tensors compute nothing, and mix with others as little as a GPU's do."""
    elsewhere = torch.device("meta")
    shot = torch.empty(1, 256, 320, 3, dtype=torch.uint8, device=elsewhere)
    if name == "physics":
        scale = gpu_networks.Scale(tile_px=(256, 320), parity_px=(64, 96), count=2)
        fusion = gpu_engines.WholeFusion("fast", elsewhere, scale)
        assert fusion(shot, shot).device == elsewhere
        # A constant that was forgotten is seen.
        fusion._module.offset._buffers["steps"] = torch.arange(161.0) - 80
        with pytest.raises(RuntimeError, match="device"):
            fusion(shot, shot)
        return
    network = build_network(name)
    module = gpu_networks.half_network(network, elsewhere)
    fused = module(*[shot] * len(module.inputs))
    assert (fused.device, fused.dtype) == (elsewhere, torch.uint8)
    assert fused.shape == shot.shape


@pytest.mark.parametrize("name", ["tensorrt:fp16", "tensorrt_rtx:int8", "loop:pycuda"])
def test_what_needs_a_gpu_says_so_on_the_processor(name: str) -> None:
    item = gpu_check._guarded(name, options())
    assert item["state"] == "not run"
    assert "GPU" in item["reason"] or "not installed" in item["reason"]
    assert item["figures"] == {}


def test_without_a_gpu_every_item_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["gpu_check.py", "-o", str(output)])
    assert gpu_check.main() == 0
    document = json.loads(output.read_text(encoding="utf-8"))
    assert [item["name"] for item in document["items"]] == gpu_check.item_names()
    assert all("no CUDA GPU" in item["reason"] for item in document["items"])
    assert document["machine"]["device"] == "none"
    assert capsys.readouterr().out.count("not run") == len(document["items"])
    page = gpu_page.render_page(document)
    assert "Nothing on this page has run on a GPU yet" in page


def test_the_page_in_the_repository_is_what_its_json_gives() -> None:
    document = json.loads((ROOT / "docs" / "gpu.json").read_text(encoding="utf-8"))
    kept = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert gpu_page.render_page(document) == kept


def test_the_page_shows_figures_failures_and_a_processor_as_what_it_is() -> None:
    ran = {"p50_ms": 1.234, "p95_ms": 2.0, "p99_ms": 3.0, "max": 1.0}
    shares: dict[str, Any] = {
        "differing": 0.0064,
        "roofline_share": 0.512,
        "matmul_share": 0.1,
    }
    shares["is_graph"] = True
    items = [
        {"name": "network:base", "state": "ok", "reason": "", "figures": ran | shares},
        {"name": "network:fast", "state": "failed", "reason": "boom", "figures": {}},
    ]
    gpu = {"device": "NVIDIA X", "compute_capability": "9.0", "torch": "2"}
    page = gpu_page.render_page({"machine": gpu, "items": items})
    assert "Nothing on this page" not in page
    assert "| network:base | 1 | 0.64 % | 1.23 | 2 | 3 | 51 % | 10 % | yes |" in page
    assert "| network:base | of the roofline | >= 50 % | 51 % | yes |" in page
    assert "| network:base | PSNR dB | >= 65 | equal | yes |" in page
    assert "| network:tsva | p50 ms | <= 12 | not yet run |  |" in page
    assert "| network:fast | failed |" in page
    assert "- network:fast: failed: boom" in page
    processor = {"device": "the processor", "torch": "2"}
    page = gpu_page.render_page({"machine": processor, "items": items})
    assert "Nothing on this page has run on a GPU yet" in page
