"""`docs/results.md` from a saved evaluation; never typed, the same bytes each time.

    python -m bifocus.model.results_page SAVED.json docs/results.md

`check` mode (`--check`) writes nothing and exits 1 if the page differs.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bifocus.errors import BifocusError
from bifocus.model.result_files import describe, load_results
from bifocus.model.result_tables import make_tables
from bifocus.whole_file import write_whole


def render_page(document: Mapping[str, Any], saved_name: str) -> str:
    """Return the Markdown page of one or more saved evaluations' tables."""
    lines = [
        "# Results",
        "",
        f"Made from `{saved_name}` by `python -m bifocus.model.results_page`; "
        "do not edit.",
        "",
        *describe(document),
        "",
    ]
    tables = "\n".join(table.to_markdown() for table in make_tables(document))
    return "\n".join(lines) + "\n" + tables


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bifocus.model.results_page", description=__doc__
    )
    parser.add_argument("saved", type=Path, help="results.json of bifocus evaluate")
    parser.add_argument("page", type=Path, help="the Markdown file")
    parser.add_argument("--check", action="store_true", help="compare, do not write")
    options = parser.parse_args(arguments)
    try:
        page = render_page(load_results(options.saved), options.saved.name)
        if options.check:
            is_same = options.page.is_file() and page == options.page.read_text("utf-8")
            return 0 if is_same else 1
        write_whole(options.page, page)
    except BifocusError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
