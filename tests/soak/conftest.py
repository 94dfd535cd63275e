"""Prints the table of outcomes at the end of the test run, wherever that is."""

import pytest

from tests.soak.outcome_table import OutcomeTable

_TABLE = OutcomeTable()


@pytest.fixture
def outcome_table() -> OutcomeTable:
    return _TABLE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TABLE.is_empty:
        return
    terminalreporter.section("outcomes of fault plans (found | required)")
    for line in _TABLE.lines():
        terminalreporter.write_line(line)
