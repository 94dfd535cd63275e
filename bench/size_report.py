"""Print the longest files and functions, so that growth is seen early.

Information only: it never fails. Run it with `python bench/size_report.py [ROWS]`.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("bifocus", "calib", "edge", "export", "hal", "model", "tests", "bench")
# The guide's "look again" and "split" sizes; half the files of comparable projects
# have under 250 lines, and nine functions in ten under 27.
FILE_LINES_LOOK, FILE_LINES_SPLIT = 300, 400
FUNCTION_LINES_LOOK = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The length of one file or function."""

    name: str
    n_lines: int


def source_files(root: Path) -> Iterator[Path]:
    """Yield each Python file once; links inside `bifocus/` lead to folders seen anyway.

    Files in a folder and one level below are covered: there are no deeper ones.
    """
    for folder in FOLDERS:
        for pattern in ("*.py", "*/*.py"):
            for path in sorted((root / folder).glob(pattern)):
                if not path.parent.is_symlink():
                    yield path


def function_sizes(path: Path, label: str) -> Iterator[Size]:
    """Yield every function and method with its length, docstring left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            has_docstring = ast.get_docstring(node, clean=False) is not None
            docstring_lines = (
                (first.end_lineno or first.lineno) - first.lineno + 1
                if has_docstring
                else 0
            )
            n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Size(
                name=f"{label}:{node.lineno} {node.name}",
                n_lines=n_lines - docstring_lines,
            )


def print_longest(title: str, sizes: list[Size], n_rows: int, look: int) -> None:
    """Print the `n_rows` longest, with a mark on those past the guide's size."""
    past = sum(size.n_lines > look for size in sizes)
    total = sum(size.n_lines for size in sizes)
    median = sorted(size.n_lines for size in sizes)[len(sizes) // 2] if sizes else 0
    print(f"{title}: {len(sizes)}, {total} lines, median {median}, {past} past {look}")
    for size in sorted(sizes, key=lambda size: -size.n_lines)[:n_rows]:
        mark = "!" if size.n_lines > look else " "
        print(f"  {mark} {size.n_lines:5d}  {size.name}")


def main() -> None:
    """Print both tables."""
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    files: list[Size] = []
    functions: list[Size] = []
    for path in source_files(ROOT):
        label = path.relative_to(ROOT).as_posix()
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        files.append(Size(name=label, n_lines=n_lines))
        functions.extend(function_sizes(path, label))
    print_longest("files", files, n_rows, FILE_LINES_LOOK)
    print_longest("functions", functions, n_rows, FUNCTION_LINES_LOOK)
    to_split = [size.name for size in files if size.n_lines > FILE_LINES_SPLIT]
    if to_split:
        print(f"to split (past {FILE_LINES_SPLIT} lines): {', '.join(to_split)}")


if __name__ == "__main__":
    main()
