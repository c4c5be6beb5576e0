"""MkDocs hook: the site's files are the repository's, under the paths that they have there.

README.md is the front page and ``docs/python.md`` is ``docs/python/``, so that a link that works in
the repository works on the site, and no text stands twice. What is listed nowhere is added:
the reference of the commands, and the notebook as a page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from command_reference import command_reference
from mkdocs.structure.files import File, Files
from notebook_page import NotebookFile, notebook_pictures

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

BESIDE_DOCS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "ovamgen/mini/model/README.md",
    "recipes/mini/README.md",
)
"""Pages outside docs/; what links to another file of the repository needs it here."""
COMMANDS = "docs/commands.md"
SUFFIXES = (".md", ".webp", ".png", ".svg", ".json", ".csv")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the site: pages and what they show."""
    root = Path(config.config_file_path).parent
    docs = sorted((root / "docs").rglob("*"))
    names = [path.relative_to(root).as_posix() for path in docs if path.suffix in SUFFIXES]
    theme = [file for file in files if file.src_dir != config.docs_dir]
    found = [
        File(name, str(root), config.site_dir, config.use_directory_urls)
        for name in (*BESIDE_DOCS, *names)
    ]
    for path in docs:
        if path.suffix == ".ipynb":
            name = path.relative_to(root).as_posix()
            found.append(NotebookFile(name, str(root), config.site_dir, config.use_directory_urls))
            found += [
                File.generated(config, f"{name.rpartition('/')[0]}/{picture}", content=content)
                for picture, content in notebook_pictures(path)
            ]
    found.append(File.generated(config, COMMANDS, content=command_reference()))
    return Files([*theme, *found])
