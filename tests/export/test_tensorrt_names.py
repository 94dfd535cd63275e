"""The code uses only names that TensorRT 10.3, 10.16, 11.4 and RTX all have."""

import ast
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ROOT / "export" / "tensorrt_names"
# A value that code calls `trt` is the module; these are where it may be found.
SOURCES = sorted(
    path
    for folder in ("bifocus", "export", "edge", "bench")
    for path in (ROOT / folder).glob("*.py")
    if "trt." in path.read_text(encoding="utf-8")
)
VERSIONS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))["names"]
    for path in sorted(NAMES.glob("*.json"))
}


def accesses(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Yield each `trt.X.Y` as ["X", "Y"], longest first, with where it stands."""
    inner: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        chain: list[str] = []
        here: ast.expr = node
        while isinstance(here, ast.Attribute):
            inner.add(id(here))
            chain.insert(0, here.attr)
            here = here.value
        if isinstance(here, ast.Name) and here.id == "trt":
            yield f"line {node.lineno}", chain


def missing(names: dict[str, Any], chain: list[str]) -> str | None:
    """Return the part of `trt.X.Y` that a version does not have, if any."""
    members = names.get(chain[0])
    if members is None:
        return chain[0]
    for name in chain[1:]:
        if name in ("name", "value", "__members__"):  # of any enumeration's value
            return None
        if not isinstance(members, dict) or name not in members:
            return ".".join(chain)
        members = names.get(name, {})
    return None


def problems(source: str) -> list[str]:
    return [
        f"{where}: trt.{gone} is not in {version}"
        for where, chain in accesses(ast.parse(source))
        for version, names in VERSIONS.items()
        if (gone := missing(names, chain))
    ]


def test_four_versions_are_recorded() -> None:
    assert [name.rsplit(".", 2)[0] for name in VERSIONS] == [
        "tensorrt-10.16",
        "tensorrt-10",  # 10.3.0
        "tensorrt-11.4",
        "tensorrt_rtx-1.7",
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_name_we_use_is_in_every_version(path: Path) -> None:
    assert problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        # What TensorRT 11 took away, as NVIDIA's migration guide lists it.
        ("config.set_flag(trt.BuilderFlag.FP16)", "tensorrt-11.4"),
        ("trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "tensorrt-11.4"),
        ("trt.IInt8EntropyCalibrator2", "tensorrt-11.4"),
        # What came later than 10.3, and what only RTX has.
        ("trt.IRuntimeConfig", "tensorrt-10.3"),
        ("trt.ComputeCapability.CURRENT", "tensorrt-10.16"),
        ("trt.Builder.no_such_method", "tensorrt_rtx"),
    ],
)
def test_a_name_that_one_version_lacks_is_found(line: str, gone: str) -> None:
    assert any(gone in problem for problem in problems(line))


def test_the_typed_api_is_what_the_recorded_names_give(tmp_path: Path) -> None:
    """`bifocus/tensorrt_api.py` was not edited, nor forgotten when names changed."""
    writer = runpy.run_path(str(ROOT / "bench" / "write_tensorrt_api.py"))
    fresh = writer["api_source"](writer["load_names"](NAMES))
    kept = (ROOT / "bifocus" / "tensorrt_api.py").read_text(encoding="utf-8")
    # Formatting breaks lines; the syntax trees are equal.
    assert ast.dump(ast.parse(fresh)) == ast.dump(ast.parse(kept))


def test_the_typed_api_has_no_precision_flag() -> None:
    from bifocus import tensorrt_api

    flags = tensorrt_api.BuilderFlagValues.__annotations__
    assert "TF32" in flags
    assert not {"FP16", "INT8", "BF16"} & set(flags)
