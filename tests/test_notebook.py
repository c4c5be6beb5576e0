"""The notebook of the documentation: what it names exists, what it stores is what it says."""

import ast
import base64
import json
import re
import shlex

import pytest

import ovamgen
from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "quickstart.ipynb"
MOST_PICTURE_BYTES = 300_000


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def pictures(notebook):
    """How many pictures each code cell shows."""
    return [
        sum("image/png" in o.get("data", {}) for o in c["outputs"]) for c in code_cells(notebook)
    ]


@pytest.fixture(scope="module")
def stored():
    return json.loads(NOTEBOOK.read_text("utf-8"))


def test_ten_cells(stored):
    assert len(code_cells(stored)) == 10
    assert [cell["execution_count"] for cell in code_cells(stored)] == list(range(1, 11))


def test_cells_compile_and_name_public_things(stored):
    from typer.main import get_command

    from ovamgen.cli import app

    named, typed = set(), 0
    for cell in code_cells(stored):
        source = "".join(cell["source"])
        if not source.startswith("%%sh\n"):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "ovamgen":
                    named.add(node.attr)
            continue
        for line in source.splitlines()[1:]:
            program, *words = shlex.split(line)
            assert program == "ovamgen"
            command = get_command(app)
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]
            # an option or argument that does not exist is an error here
            command.make_context("ovamgen", words)
            typed += 1
    assert typed >= 3
    assert len(named) >= 4
    assert named <= set(ovamgen.__all__)


def test_what_is_stored_is_small_and_tells_nothing_of_a_machine(stored):
    assert not [o for o in outputs(stored) if o["output_type"] == "error"]
    shown = [
        base64.b64decode("".join(data))
        for output in outputs(stored)
        for kind, data in output.get("data", {}).items()
        if kind.startswith("image/")
    ]
    assert len(shown) == sum(pictures(stored)) >= 3
    assert sum(map(len, shown)) < MOST_PICTURE_BYTES
    text = json.dumps([output.get("text", "") for output in outputs(stored)])
    assert not re.search(r"/(root|home|tmp|work|usr)/", text)
    assert "\\u001b" not in text


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_notebook_runs_in_an_empty_folder(stored, tmp_path, monkeypatch):
    from tests.documentation_notebook import executed

    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = executed(NOTEBOOK, tmp_path)
    assert pictures(notebook) == pictures(stored)
    folder = tmp_path / "notebook"
    captions = (folder / "captions.csv").read_text("utf-8").splitlines()[1:]
    assert ovamgen.open_corpus(str(folder / "corpus")).samples == len(captions) > 0
    assert json.loads((folder / "scores" / "scores.json").read_text("utf-8"))
