"""The pictures of README.md and docs/results/mini.md: ``make pictures`` makes all of them again.

``python -m tests.documentation_pictures CORPUS SAMPLES DOCS`` needs what the tests in a browser
need. CORPUS is the demo's, SAMPLES has four pictures a class; the annotation page shows the
recipe's own.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from ovamgen.pictures.sample_folder import SampleFolder
from ovamgen.report.write import write_report
from ovamgen.shards.output_files import CONTACT_SHEET_NAME
from recipes.mini.quality import draw_grid
from tests.annotate.conftest import Served
from tests.browser import FLAGS, find_chromium

ANNOTATED = Path(__file__).parents[1] / "recipes" / "mini" / "annotated"
ANNOTATED_SHARE = 0.4
SHOWN = "car-005"
"""The sample that the annotation page shows."""
WINDOWS = {1280: 1130, 390: 1010}
"""Height of the window in which a report is shown, by its width: two rows of samples."""


def screenshot(browser: Browser, url: str, width: int, height: int, click: str = "") -> Image.Image:
    """A page in a window of the size, light, after a click."""
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme="light", reduced_motion="reduce"
    )
    page.goto(url)
    if click:
        page.locator(click).click()
        page.wait_for_selector(f"{click}[aria-current=true]")
        page.wait_for_timeout(1000)  # the pictures of the strip come by and by
    picture = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    return picture


def pictures(corpus: Path, samples: Path, folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Name and picture of each; ``folder`` is for files in between."""
    yield "demo-contact-sheet", Image.open(corpus / CONTACT_SHEET_NAME)
    draw_grid(SampleFolder.open(samples), folder / "grid.png")
    yield "mini-grid", Image.open(folder / "grid.png")
    write_report(str(corpus), str(folder / "report.html"))
    shutil.copytree(ANNOTATED, folder / "samples")
    painted = sorted((folder / "samples" / "annotations").iterdir())
    for path in painted[round(ANNOTATED_SHARE * len(painted)) :]:
        path.unlink()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        report = (folder / "report.html").as_uri()
        for width, height in WINDOWS.items():
            yield f"report-{width}", screenshot(browser, report, width, height)
        served = Served(SampleFolder.open(folder / "samples"))
        yield "annotate", screenshot(browser, served.url, 1280, 800, f'#strip [title*="({SHOWN})"]')
        served.finish()
        browser.close()


def main(corpus: Path, samples: Path, docs: Path) -> None:
    """Writes them as WebP, which has all colours in a tenth of a PNG's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in pictures(corpus, samples, Path(folder)):
            path = docs / f"{name}.webp"
            picture.convert("RGB").save(path, "WEBP", quality=90, method=6)
            print(f"{path} ({path.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
