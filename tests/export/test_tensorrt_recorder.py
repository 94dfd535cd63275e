"""The recorder reads signatures out of docstrings as pybind11 writes them."""

import runpy
from pathlib import Path
from typing import Any

import pytest

RECORDER = Path(__file__).parents[2] / "bench" / "record_tensorrt_names.py"


@pytest.fixture(scope="module")
def recorder() -> dict[str, Any]:
    return runpy.run_path(str(RECORDER))


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (
            "parse(self: tensorrt_bindings.tensorrt.OnnxParser, model: buffer) -> bool",
            "(self: OnnxParser, model: buffer) -> bool",
        ),
        (
            "parse(*args, **kwargs)\nOverloaded function.\n\n"
            "1. parse(self: tensorrt.tensorrt.OnnxParser, model: int) -> None\n"
            "2. parse(self: tensorrt.tensorrt.OnnxParser) -> bool",
            "(self: OnnxParser, model: int) -> None",
        ),
        ("Nothing that reads as a signature", ""),
        (None, ""),
    ],
)
def test_the_first_signature_counts(
    recorder: dict[str, Any], docstring: str | None, expected: str
) -> None:
    def function() -> None:
        pass

    function.__doc__ = docstring
    assert recorder["signature"](function, "parse") == expected


def test_members_are_told_apart(recorder: dict[str, Any]) -> None:
    class Kind:
        """Like an enumeration of pybind11 with a property and a method."""

        def __init__(self, value: int) -> None:
            self._value = value

        def __int__(self) -> int:
            return self._value

        def name(self) -> str:
            """name(self: x.Kind) -> str"""
            return ""

        def add_convolution(self) -> None:
            """Not for us."""

        @property
        def size(self) -> int:
            """(self: x.Kind) -> int"""
            return 0

    Kind.FIRST = Kind(3)  # type: ignore[attr-defined]
    assert recorder["class_members"](Kind) == {
        "FIRST": "value: 3",
        "name": "(self: x.Kind) -> str",
        "size": "property: int (read only)",
    }
