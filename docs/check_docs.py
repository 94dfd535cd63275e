"""Check the Markdown files: relative links lead somewhere, and `>>>` examples are true.

Links to other sites are not followed, since checks run without a network. Run it with
`python docs/check_docs.py`; it prints what is wrong and then exits with 1.
"""

import doctest
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def markdown_files(root: Path) -> Iterator[Path]:
    """Yield the project's Markdown files, outside hidden and built folders."""
    yield from sorted(root.glob("*.md"))
    for folder in ("docs", "examples", "weights", "bench"):
        yield from sorted((root / folder).rglob("*.md"))


def anchors(text: str) -> set[str]:
    """Return the anchors of a file's headings, made as code hosts make them."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        kept = re.sub(r"[^\w\- ]", "", heading.lower())
        anchor = kept.strip().replace(" ", "-")
        n_before = sum(
            re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", a) is not None for a in found
        )
        found.add(f"{anchor}-{n_before}" if n_before else anchor)
    return found


def broken_links(path: Path, root: Path) -> Iterator[str]:
    """Yield one line for each relative link of `path` that leads nowhere."""
    prose = CODE.sub("", FENCE.sub("", path.read_text(encoding="utf-8")))
    for link in LINK.findall(prose):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name) if name else path
        where = path.relative_to(root).as_posix()
        if not target.exists():
            yield f"{where}: link to {link}, but there is no such file"
        elif (
            anchor
            and target.suffix == ".md"
            and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            yield f"{where}: link to {link}, but there is no such heading"


def main() -> int:
    """Check every file; return the exit code."""
    problems: list[str] = []
    n_files = n_examples = 0
    for path in markdown_files(ROOT):
        n_files += 1
        problems.extend(broken_links(path, ROOT))
        result = doctest.testfile(str(path), module_relative=False, encoding="utf-8")
        n_examples += result.attempted
        if result.failed:
            name = path.relative_to(ROOT).as_posix()
            problems.append(f"{name}: {result.failed} examples failed")
    sys.stdout.write(f"{n_files} Markdown files, {n_examples} examples run\n")
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
