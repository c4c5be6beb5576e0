"""One undisturbed run for all rows, and the rows that the tests find."""

import os
from pathlib import Path

import pytest

from tests.faults.command import Command
from tests.faults.table import TABLE, Row, compare, page
from tests.runs import run_config


class Matrix:
    """Collects the rows of a test session."""

    def __init__(self, undisturbed: Path) -> None:
        self.undisturbed = undisturbed
        self.rows: list[Row] = []

    def check(self, folder, *, reference=None, **row) -> None:
        """The output is what an undisturbed run leaves; the row is kept either way."""
        found = compare(folder, reference or self.undisturbed, **row)
        self.rows.append(found)
        told = found.lost, found.duplicated, found.findings, found.equal
        assert told == (0, 0, (), True), found


@pytest.fixture(scope="session")
def matrix(tmp_path_factory, repository):
    """The reference, made once; at the end the page is written where one was asked for."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = Command(run_config(folder, runtime={"runner": "local"}), folder / "log")
    assert command.end() == 0, command.text
    matrix = Matrix(folder / "out")
    yield matrix
    if path := os.environ.get(TABLE):
        (repository / path).write_text(page(matrix.rows, repository))
