"""The documentation's notebook executed in a folder of its own: ``make notebook``, and its test.

    python -m tests.documentation_notebook docs/quickstart.ipynb

writes the outputs into the notebook, without times and in the order in which they were said.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and moves of the cursor: kernels ask programs for them, pages cannot show them."""


def executed(notebook: Path, folder: Path) -> NotebookNode:
    """The notebook with the outputs of a run in `folder`, `ovamgen` being this Python's.

    Raises:
        CellExecutionError: a cell failed.
    """
    programs = folder / "programs"
    programs.mkdir()
    program = programs / "ovamgen"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ovamgen "$@"\n')
    program.chmod(0o755)
    clean = folder / "notebook"
    clean.mkdir()
    found = nbformat.read(notebook, as_version=4)
    kept = dict(found.metadata)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        # of tqdm's, where there are no widgets: it names a path of this machine
        "PYTHONWARNINGS": "ignore:IProgress not found",
    }
    client = NotebookClient(
        found,
        timeout=1500,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(clean)}},
    )
    client.execute(env=environment)
    found.metadata = nbformat.from_dict(kept)
    without_terminal(found)
    return found


def without_terminal(notebook: NotebookNode) -> None:
    """Takes what only terminals understand out of what was said."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = _TERMINAL.sub("", output.text)


def main() -> None:
    notebook = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(notebook, Path(folder)), notebook)


if __name__ == "__main__":
    main()
