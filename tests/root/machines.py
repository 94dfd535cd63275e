"""Builds a folder that looks like `/` of a recorded machine."""

from pathlib import Path

from bifocus.diagnosis import Diagnosis, Machine


def machine(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Machine(root=root)


def states(rows: list[Diagnosis]) -> dict[str, str]:
    return {row.name: row.state for row in rows}


def the(rows: list[Diagnosis], name: str) -> Diagnosis:
    (row,) = [row for row in rows if row.name == name]
    return row
