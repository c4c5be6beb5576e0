"""A notebook as a page of the site: its text, code and stored outputs, as Markdown.

Markdown, and not nbconvert's HTML, gives it the look of the other pages, dark and on a phone too,
and their check of links.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File


class NotebookFile(File):
    """A notebook that MkDocs takes for a page of Markdown."""

    def is_documentation_page(self) -> bool:
        """True: it is rendered, not copied."""
        return True

    @property
    def content_string(self) -> str:
        """The notebook as Markdown."""
        assert self.abs_src_path is not None
        return notebook_markdown(Path(self.abs_src_path))


def notebook_pictures(notebook: Path) -> Iterator[tuple[str, bytes]]:
    """Name and PNG of each picture among the outputs."""
    for number, cell in enumerate(_cells(notebook)):
        for place, output in enumerate(cell.get("outputs", ())):
            if png := output.get("data", {}).get("image/png"):
                yield _picture_name(notebook, number, place), base64.b64decode("".join(png))


def notebook_markdown(notebook: Path) -> str:
    """The cells of a notebook with their outputs, as Markdown.

    Raises:
        ValueError: an output is of a kind that has no place on the page.
    """
    parts = []
    for number, cell in enumerate(_cells(notebook)):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(_fenced("sh" if source.startswith("%%sh") else "python", source))
        for place, output in enumerate(cell["outputs"]):
            data = output.get("data", {})
            if "image/png" in data:
                name = _picture_name(notebook, number, place)
                parts.append(f"![What the cell above shows]({name})")
            elif output["output_type"] == "stream":
                parts.append(_fenced("text", "".join(output["text"])))
            elif "text/plain" in data:
                parts.append(_fenced("text", "".join(data["text/plain"])))
            else:
                raise ValueError(f"{notebook}: cell {number} has an output of {sorted(output)}")
    return "\n\n".join(parts) + "\n"


def _cells(notebook: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(notebook.read_text("utf-8"))["cells"]
    return found


def _picture_name(notebook: Path, number: int, place: int) -> str:
    return f"{notebook.stem}-{number}-{place}.png"


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
