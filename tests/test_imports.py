"""Imports point down only, and importing the device side stays light."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORT_ALL = """
import importlib, pkgutil, sys, threading
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__, name + "."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
heavy = {"torch", "tensorrt", "pycuda", "matplotlib.pyplot"} & set(sys.modules)
assert not heavy, f"loaded by an import: {heavy}"
assert not [name for name in sys.modules if name.split(".")[:2] == ["bifocus", "model"]]
assert threading.active_count() == 1, "an import started a thread"
"""


def test_layers_and_forbidden_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    cli = pytest.importorskip(
        "importlinter.cli", reason="import-linter is in the lint group"
    )
    monkeypatch.chdir(ROOT)
    assert cli.lint_imports(no_cache=True, no_logo=True) == 0


@pytest.mark.slow
def test_importing_the_device_side_loads_no_heavy_library() -> None:
    packages = ["bifocus.hal", "bifocus.calib", "bifocus.edge"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL, *packages],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
