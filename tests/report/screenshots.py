"""Pictures of a report for the documentation: ``report-1280.png`` and ``report-390.png``.

``python -m tests.report.screenshots REPORT.html FOLDER`` needs what the tests in a browser need.
The whole page is shown with its first rows of samples only, the slider between heatmap and mask.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.browser import FLAGS, find_chromium

MAX_BYTES = 400_000
SHOWN = {1280: 10, 390: 4}
"""Samples by width of the window."""
VIEW = "1.4"

ONLY_SOME = """count => {
    const cards = [...document.querySelectorAll('.card')].filter(card => !card.hidden);
    cards.forEach((card, index) => { card.hidden = index >= count; });
    document.getElementById('viewer').style.position = 'static';
}"""


def picture(browser: Browser, report: Path, width: int) -> Image.Image:
    """The page in a window of the width, light."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light")
    page.goto(report.absolute().as_uri())
    page.locator("#order").select_option("best")
    page.locator("#view").fill(VIEW)
    page.evaluate("document.activeElement.blur()")
    page.evaluate(ONLY_SOME, SHOWN[width])
    data = page.screenshot(full_page=True)
    page.close()
    return Image.open(io.BytesIO(data)).convert("RGB")


def encode(image: Image.Image, max_bytes: int = MAX_BYTES) -> bytes:
    """A PNG of at most so many bytes, of fewer colours where it must be."""
    for colours in (None, 256, 128, 64, 32):
        buffer = io.BytesIO()
        shown = image if colours is None else image.quantize(colours, dither=Image.Dither.NONE)
        shown.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= max_bytes:
            return buffer.getvalue()
    raise SystemExit(f"the picture does not fit {max_bytes:,} bytes: show fewer samples")


def main(report: Path, folder: Path) -> None:
    """Writes both pictures."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        for width in SHOWN:
            path = folder / f"report-{width}.png"
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(encode(picture(browser, report, width)))
            os.replace(temporary, path)
            print(f"{path} ({path.stat().st_size / 1e3:.0f} kB)")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
