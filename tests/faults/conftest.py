"""One undisturbed run for all rows, and the rows that the tests find."""

import os
from pathlib import Path

import pytest

from tests.faults.command import Command
from tests.faults.commands import write_world
from tests.faults.disturbed import Disturber, build_shim
from tests.faults.table import OTHER_COMMANDS, TABLE, Row, compare, page, write_commands
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
    if matrix.rows and (path := os.environ.get(TABLE)):
        place = repository / path
        _, mark, other = place.read_text().partition(OTHER_COMMANDS) if place.exists() else [""] * 3
        place.write_text(page(matrix.rows, repository) + (f"\n{mark}{other}" if mark else ""))


@pytest.fixture(scope="session")
def command_rows(repository):
    """Takes the rows of commands that are not `generate`; the page is written as for `matrix`."""
    rows = []
    yield rows
    if rows and (path := os.environ.get(TABLE)):
        write_commands(rows, repository / path, repository)


@pytest.fixture(scope="session")
def disturber(tmp_path_factory, repository):
    library = build_shim(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip("the shim that counts file operations needs Linux and a C compiler")
    with Disturber(library, repository) as disturber:
        yield disturber


@pytest.fixture(scope="session")
def original(tmp_path_factory, repository):
    """A healthy one of everything; each attempt gets a copy."""
    root = tmp_path_factory.mktemp("original")
    write_world(root, repository / "tests" / "golden" / "tiny-sd")
    return root
