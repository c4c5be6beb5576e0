"""The files of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ovamgen.evaluate.comparison import Comparison
from ovamgen.evaluate.comparison_figures import write_figures
from ovamgen.evaluate.comparison_report import comparison_data, comparison_markdown
from ovamgen.evaluate.masks import data_set_name
from ovamgen.evaluate.tables import per_image_csv, write_json, write_text

COMPARISON = "comparison"


def write_comparison(found: Comparison, out: Path, remarks: Sequence[str]) -> None:
    """Writes ``comparison.json``, ``comparison.md``, the figures and a CSV for each row.

    Args:
        found: the results.
        out: the folder.
        remarks: sentences that a reader must know first.

    Raises:
        ConfigError: they cannot be written.
    """
    figures = write_figures(found, out, data_set_name(found.pictures))
    for line in found.lines:
        write_text(out / "per_image" / f"{line.setup.name}.csv", per_image_csv(line.tuned))
    page = comparison_markdown(found, figures=figures, remarks=remarks)
    write_text(out / f"{COMPARISON}.md", page)
    # last, as the mark that everything is there
    write_json(out / f"{COMPARISON}.json", comparison_data(found, remarks))
