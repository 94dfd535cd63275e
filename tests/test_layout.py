"""The folder-to-package map is complete, and every tool can see through it."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads(
    (ROOT / "pyproject.toml").read_text(encoding="utf-8")
)
SETUPTOOLS: dict[str, Any] = PYPROJECT["tool"]["setuptools"]
FOLDERS: dict[str, str] = SETUPTOOLS["package-dir"]
LINKED = sorted(set(FOLDERS.values()) - {"bifocus"})


@pytest.mark.parametrize(("package", "folder"), FOLDERS.items())
def test_package_comes_from_its_folder(package: str, folder: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).samefile(ROOT / folder / "__init__.py")


def test_every_folder_with_code_is_packaged() -> None:
    # Hidden folders and build outputs hold copies; links lead to folders found anyway.
    tops = [
        top
        for top in ROOT.iterdir()
        if top.is_dir()
        and not top.name.startswith(".")
        and top.name not in {"tests", "build", "dist"}
    ]
    found = {
        init.parent.relative_to(ROOT).as_posix()
        for top in tops
        for init in top.glob("**/__init__.py")
        if not any(part.is_symlink() for part in init.parents)
    }
    assert found == set(FOLDERS.values())
    assert set(SETUPTOOLS["packages"]) == set(FOLDERS)


@pytest.mark.skipif(os.name == "nt", reason="links are plain text there")
@pytest.mark.parametrize("folder", LINKED)
def test_checkers_see_the_folder_through_a_relative_link(folder: str) -> None:
    link = ROOT / "bifocus" / folder
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.samefile(ROOT / folder)


@pytest.mark.parametrize("folder", LINKED)
def test_pyright_is_told_of_the_link(folder: str) -> None:
    assert f"bifocus/{folder}" in PYPROJECT["tool"]["pyright"]["include"]


@pytest.mark.parametrize("folder", LINKED)
def test_the_bare_name_of_the_folder_is_banned(folder: str) -> None:
    banned = PYPROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert banned[folder]["msg"] == f"import bifocus.{folder}"


@pytest.mark.parametrize("folder", ["bifocus", *LINKED])
def test_every_module_begins_with_a_docstring(folder: str) -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / folder).glob("*.py"))
        if not path.read_text(encoding="utf-8").startswith('"""')
    ]
    assert silent == []
