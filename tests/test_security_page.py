"""What SECURITY.md names exists: a guard that was moved or a test that was renamed is noticed."""

import ast
import re
from itertools import pairwise

import pytest

from ovamgen import bounds

UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "SECURITY.md").read_text("utf-8")


def rows_of(page, heading):
    """The cells of the table below a heading, without its first two lines."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    assert len(rows) > 4, heading
    return rows[2:]


def test_every_module_and_test_that_it_names_exists(page, repository):
    named = re.findall(r"`((?:ovamgen|tests|deploy)/[\w/.-]+)(?:::(\w+))?`", page)
    assert len(named) > 40
    for path, test in named:
        file = repository / path
        assert file.exists(), path
        if test:
            assert re.search(rf"^\s*def {test}\(", file.read_text("utf-8"), re.MULTILINE), test


def test_every_row_names_a_guard_and_a_test(page):
    for what, how, guard, test in rows_of(page, "What is read from outside, and how it is guarded"):
        assert how, what
        assert "`ovamgen/" in guard, what
        assert "`tests/" in test, what


def test_every_command_is_told_what_may_be_handed_to_it(page):
    from ovamgen.cli import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    table = rows_of(page, "What may be handed to which command")
    told = {word for _, names, _ in table for word in re.findall(r"`([a-z]+)", names)}
    assert commands - told == {"config", "classes", "bench", "prompts"}


def test_the_bounds_are_those_of_the_code(page, repository):
    assert rows_of(page, "The bounds") == [*bound_rows(repository)]


def bound_rows(repository):
    """Value, meaning and name of every bound, in the order of the module."""
    body = ast.parse((repository / "ovamgen" / "bounds.py").read_text("utf-8")).body
    for node, told in pairwise(body):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        assert isinstance(told, ast.Expr), f"{target.id} says nothing of itself"
        value = getattr(bounds, target.id)
        meaning = " ".join(told.value.value.split()).replace("``", "`")
        yield [shown(target.id, value), meaning, f"`{target.id}`"]


def shown(name, value):
    """A bound for people: bytes in binary units, numbers with commas."""
    if not isinstance(value, int):
        return ", ".join(f"{key} {number:,}" for key, number in value.items())
    if name.endswith("_BYTES"):
        size, unit = next((s, u) for s, u in UNITS if value >= s)
        return f"{value // size} {unit}"
    return f"{value:,}"


def test_the_numbers_are_those_of_the_code(page):
    from ovamgen.annotate import importing, server
    from ovamgen.plan import source
    from ovamgen.status import logs as run_logs

    assert f"at most {source.MAX_BYTES // 2**30} GiB" in page
    assert f"at most {run_logs.MAX_BYTES // 10**6} MB" in page
    assert f"bodies are at most {server.LARGEST_BODY_BYTES // 2**20} MiB" in page
    assert f"files at most {importing._LARGEST_FILE_BYTES // 2**20} MiB" in page
    assert f"without pickle, at most {bounds.MAX_HEATMAP_BYTES // 2**20} MiB" in page
