"""The error tree: drawn as it is, and each error with the exit code it states."""

import inspect
import re

import pytest

from bifocus import errors
from bifocus.errors import BifocusError

CLASSES = {
    name: value
    for name, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, BifocusError)
}
BRANCH = re.compile(
    r"^ {4}(?P<stem>[│ ]*)(?:[├└]── )?(?P<name>\w+Error)\b(?P<text>.*)$"
)


def drawn_tree() -> dict[str, tuple[str | None, int | None]]:
    """Read the docstring's drawing: name -> (parent, exit code where stated)."""
    assert errors.__doc__ is not None
    tree: dict[str, tuple[str | None, int | None]] = {}
    ancestors: list[str] = []
    for line in errors.__doc__.splitlines():
        match = BRANCH.match(line)
        if match is None:
            continue
        is_root = "── " not in line
        depth = 0 if is_root else len(match["stem"]) // 4 + 1
        del ancestors[depth:]
        code = re.search(r"exit code (\d)", match["text"])
        tree[match["name"]] = (
            ancestors[-1] if ancestors else None,
            int(code[1]) if code else None,
        )
        ancestors.append(match["name"])
    return tree


def test_the_drawing_shows_every_class_and_no_other() -> None:
    assert set(drawn_tree()) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_drawn_parent_is_the_real_one(name: str) -> None:
    parent, _ = drawn_tree()[name]
    assert CLASSES[name].__bases__[0].__name__ == (parent or "Exception")


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_drawn_exit_code_is_the_real_one(name: str) -> None:
    parent, code = drawn_tree()[name]
    if code is None and parent is not None:
        code = drawn_tree()[parent][1]
    assert CLASSES[name].exit_code == (code if code is not None else 1)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_exit_codes_are_those_of_the_command_line(name: str) -> None:
    # 0 is success and codes above 2 belong to the shell.
    assert CLASSES[name].exit_code in {1, 2}
