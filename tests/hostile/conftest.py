"""The specimen, and the table of outcomes at the end."""

import os

import pytest

from tests.hostile.page import PAGE, table, write_page
from tests.hostile.runner import Outcome
from tests.hostile.world import write_specimen

_OUTCOMES: list[Outcome] = []


@pytest.fixture(scope="session")
def specimen(tmp_path_factory, repository):
    """A healthy one of everything; each attack changes a copy."""
    root = tmp_path_factory.mktemp("specimen")
    write_specimen(root, repository / "tests" / "golden" / "tiny-sd")
    return root


@pytest.fixture
def keep():
    """Takes an outcome for the table."""
    return _OUTCOMES.append


def pytest_terminal_summary(terminalreporter, config):
    if _OUTCOMES:
        terminalreporter.section("attacks by outcome")
        for line in table(_OUTCOMES):
            terminalreporter.write_line(line)
        if path := os.environ.get(PAGE):
            write_page(_OUTCOMES, config.rootpath / path, config.rootpath)
