"""The page in a real Chromium: what is painted on the screen is what the PNG holds."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest

from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import save_mask
from tests.annotate.conftest import CAT, DOG, HEIGHT, TABLE, WIDTH, disc, iou


class Sheet:
    """The page, with the mouse in pixels of the image."""

    def __init__(self, watched):
        self.watched, self.page = watched, watched.page
        self.ready()

    def ready(self):
        self.page.wait_for_selector("#stage:not([data-tool=none])")

    def on_screen(self, x, y):
        scale, left, top = map(float, self.page.get_attribute("#stage", "data-view").split())
        box = self.page.locator("#stage").bounding_box()
        return box["x"] + left + x * scale, box["y"] + top + y * scale

    def drag(self, *points, button="left"):
        self.page.mouse.move(*self.on_screen(*points[0]))
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*self.on_screen(*point), steps=4)
        self.page.mouse.up(button=button)

    def click(self, x, y):
        self.page.mouse.click(*self.on_screen(x, y))

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def brush(self, diameter):
        self.page.locator("#radius").evaluate(
            """(slider, diameter) => {
                slider.value = 100 * Math.log(diameter) / Math.log(400);
                slider.dispatchEvent(new Event("input"));
            }""",
            diameter,
        )
        assert self.page.text_content("#diameter") == f"{diameter} px"

    def until(self, holds, seconds=20):
        """Waits for the files: an autosave may still be on its way when the page looks saved."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(ConfigError):
                if holds():
                    return
            assert time.monotonic() < end, "what was painted did not reach the file"
            self.page.wait_for_timeout(50)

    def saved(self):
        self.page.wait_for_selector("#saved[data-state=saved]")

    def wait_for(self, selector, text):
        self.page.locator(selector, has_text=text).wait_for()


@pytest.fixture
def sheet(open_page, served):
    return Sheet(open_page(served.url))


def test_a_disc_is_painted_saved_and_shown_again(sheet, folder, served):
    sheet.brush(60)
    sheet.click(150, 40)
    sheet.saved()
    assert iou(folder.annotation(CAT), disc(40, 150, 30)) > 0.97
    sheet.wait_for("#count", "1 of 3 annotated")
    sheet.page.reload()
    sheet.ready()
    # the mask is there again: a stroke elsewhere keeps it
    sheet.brush(20)
    sheet.click(30, 100)
    sheet.saved()
    assert iou(folder.annotation(CAT), disc(40, 150, 30) | disc(100, 30, 10)) > 0.97
    assert served.finish().changed == 1


def test_a_stroke_follows_the_mouse_and_the_eraser_takes_away(sheet, folder):
    sheet.brush(20)
    sheet.drag((40, 60), (160, 60))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    bar = np.hypot(columns - np.clip(columns, 40, 160), rows - 60) <= 10
    sheet.saved()
    assert iou(folder.annotation(CAT), bar) > 0.95
    sheet.press("e")
    sheet.drag((100, 20), (100, 100))
    sheet.saved()
    cut = np.hypot(columns - 100, rows - np.clip(rows, 20, 100)) <= 10
    assert iou(folder.annotation(CAT), bar & ~cut) > 0.95
    # the right button of the brush erases too
    sheet.press("b")
    sheet.drag((40, 60), (90, 60), button="right")
    sheet.saved()
    assert not folder.annotation(CAT)[:, :90].any()


@pytest.mark.slow
def test_a_polygon_is_filled_by_its_corners(sheet, folder):
    sheet.press("p")
    for corner in ((20, 20), (120, 20), (120, 100), (20, 100)):
        sheet.click(*corner)
    sheet.press("ArrowRight")
    sheet.wait_for("#notice", "A polygon is open")
    sheet.press("Enter")
    sheet.saved()
    square = np.zeros((HEIGHT, WIDTH), bool)
    square[20:100, 20:120] = True
    assert iou(folder.annotation(CAT), square) > 0.95
    # closed on its first corner, with Alt: a hole; a corner too many is taken back
    for corner in ((50, 40), (90, 40), (90, 80), (180, 110)):
        sheet.click(*corner)
    sheet.press("z")
    sheet.click(50, 80)
    sheet.page.keyboard.down("Alt")
    sheet.click(50, 40)
    sheet.page.keyboard.up("Alt")
    sheet.saved()
    square[40:80, 50:90] = False
    assert iou(folder.annotation(CAT), square) > 0.95
    sheet.click(5, 5)
    sheet.press("Escape", "ArrowRight")
    sheet.wait_for("#key", "table_1")


@pytest.mark.slow
def test_undo_and_redo(sheet, folder):
    sheet.brush(30)
    sheet.click(50, 50)
    sheet.click(150, 50)
    sheet.press("z")
    sheet.until(lambda: iou(folder.annotation(CAT), disc(50, 50, 15)) > 0.95)
    sheet.press("Control+z")
    sheet.wait_for("#state", "to do")
    sheet.saved()
    assert not folder.annotation_path(CAT).exists()
    sheet.press("y", "Control+Shift+Z")
    sheet.wait_for("#state", "annotated")
    both = disc(50, 50, 15) | disc(50, 150, 15)
    sheet.until(lambda: iou(folder.annotation(CAT), both) > 0.95)
    sheet.press("Delete")
    sheet.wait_for("#state", "to do")
    sheet.press("z")
    sheet.wait_for("#state", "annotated")


def test_samples_one_after_the_other(sheet, folder):
    page = sheet.page
    # text of the list is text, not markup
    assert page.text_content("#prompt") == CAT.prompt
    sheet.brush(40)
    sheet.click(100, 60)
    # no waiting: what was painted is saved before the next sample opens
    sheet.press("ArrowRight")
    sheet.wait_for("#key", "table_1")
    assert iou(folder.annotation(CAT), disc(60, 100, 20)) > 0.95
    assert page.text_content("#phrase") == "dining table"
    sheet.ready()
    sheet.press("l")
    sheet.wait_for("#state", "left out")
    sheet.wait_for("#count", "1 of 3 annotated, 1 left out")
    page.get_by_role("button", name="Previous").click()
    sheet.wait_for("#key", "cat-0")
    sheet.wait_for("#state", "annotated")
    sheet.ready()
    sheet.press("n")
    sheet.wait_for("#key", "dog-2")
    sheet.ready()
    sheet.click(100, 60)
    sheet.saved()
    sheet.press("n")
    sheet.wait_for("#notice", "Every sample is annotated or left out.")
    assert folder.annotation(DOG).any()
    assert not folder.annotation_path(TABLE).exists()
    states = [button.get_attribute("data-state") for button in page.locator("#strip button").all()]
    assert states == ["annotated", "left_out", "annotated"]


@pytest.mark.slow
def test_zoom_and_pan_keep_the_place(sheet, folder):
    page = sheet.page
    page.mouse.move(*sheet.on_screen(150, 40))
    page.mouse.wheel(0, -600)
    sheet.press("+")
    page.keyboard.down("Space")
    sheet.drag((150, 40), (145, 45))
    page.keyboard.up("Space")
    assert float(page.get_attribute("#stage", "data-view").split()[0]) > 8
    assert not folder.annotation_path(CAT).exists()
    sheet.brush(12)
    sheet.click(150, 40)
    sheet.saved()
    assert iou(folder.annotation(CAT), disc(40, 150, 6)) > 0.95
    sheet.press("0")
    sheet.click(20, 100)
    sheet.saved()
    assert iou(folder.annotation(CAT), disc(40, 150, 6) | disc(100, 20, 6)) > 0.95


@pytest.mark.slow
def test_two_windows_do_not_overwrite_each_other_unasked(open_page, served, folder):
    first, second = Sheet(open_page(served.url)), Sheet(open_page(served.url))
    for window in (first, second):
        window.brush(40)
    first.click(50, 60)
    first.saved()
    second.click(150, 60)
    second.wait_for("#notice", "changed elsewhere")
    assert iou(folder.annotation(CAT), disc(60, 50, 20)) > 0.95
    second.page.get_by_role("button", name="Keep mine").click()
    second.saved()
    assert iou(folder.annotation(CAT), disc(60, 150, 20)) > 0.95
    first.click(50, 100)
    first.wait_for("#notice", "changed elsewhere")
    first.page.get_by_role("button", name="Show that one").click()
    first.ready()
    first.saved()
    first.click(50, 100)
    first.saved()
    assert iou(folder.annotation(CAT), disc(60, 150, 20) | disc(100, 50, 20)) > 0.95
    for window in (first, second):
        # the browser itself reports such an answer
        window.watched.expected.append("status of 412")


def test_what_cannot_be_saved_is_said_and_kept(open_page, served):
    sheet = Sheet(open_page(served.url))
    served.finish()
    sheet.click(100, 60)
    sheet.wait_for("#notice", "The server does not answer")
    sheet.press("ArrowRight")
    sheet.wait_for("#saved", "Not saved")
    assert sheet.page.text_content("#key") == "cat-0"
    assert sheet.watched.errors
    sheet.watched.expected.append("ERR_CONNECTION_REFUSED")


@pytest.mark.slow
def test_a_damaged_annotation_is_said_and_can_be_painted_again(open_page, served, folder):
    save_mask(np.ones((3, 3), bool), folder.annotation_path(CAT))
    sheet = Sheet(open_page(f"{served.url}#cat-0"))
    sheet.wait_for("#notice", "must be 120x200 pixels")
    sheet.watched.expected.append("status of 422")
    sheet.brush(40)
    sheet.click(50, 60)
    sheet.saved()
    assert iou(folder.annotation(CAT), disc(60, 50, 20)) > 0.95


@pytest.mark.slow
def test_fingers_paint_and_pinch(open_page, served, folder):
    sheet = Sheet(open_page(served.url, width=390, height=844, has_touch=True, is_mobile=True))
    sheet.brush(60)
    sheet.page.touchscreen.tap(*sheet.on_screen(150, 40))
    sheet.saved()
    assert iou(folder.annotation(CAT), disc(40, 150, 30)) > 0.95
    before = float(sheet.page.get_attribute("#stage", "data-view").split()[0])
    x, y = sheet.on_screen(100, 60)
    protocol = sheet.page.context.new_cdp_session(sheet.page)

    def touch(kind, *points):
        places = [{"x": px, "y": py, "id": index} for index, (px, py) in enumerate(points)]
        protocol.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (x - 20, y))
    touch("touchMove", (x - 25, y))
    touch("touchStart", (x - 25, y), (x + 25, y))
    for apart in (35, 50, 70):
        touch("touchMove", (x - apart, y), (x + apart, y))
    touch("touchEnd")
    sheet.page.wait_for_timeout(100)
    assert float(sheet.page.get_attribute("#stage", "data-view").split()[0]) > 1.5 * before
    sheet.page.wait_for_timeout(600)
    # the first finger's stroke was the start of the pinch, not paint
    assert iou(folder.annotation(CAT), disc(40, 150, 30)) > 0.95
    width = sheet.page.evaluate("() => document.documentElement.scrollWidth")
    assert width == 390


def test_the_keys_are_shown(sheet):
    sheet.press("?")
    assert sheet.page.locator("dialog dt").count() == sheet.page.locator("dialog dd").count() > 15
    sheet.press("ArrowRight", "Escape")
    sheet.page.wait_for_selector("dialog", state="hidden")
    assert sheet.page.text_content("#key") == "cat-0"


def test_a_page_of_another_origin_cannot_read_or_write(open_page, served, folder, tmp_path):
    (tmp_path / "evil.html").write_text("<title>evil</title>")
    evil = open_page((tmp_path / "evil.html").as_uri())
    outcome = evil.page.evaluate(
        """async (url) => {
            const put = {method: 'PUT', headers: {'If-Match': 'x'}};
            const blind = {method: 'POST', mode: 'no-cors'};
            const tries = [
                fetch(url + 'samples'),
                fetch(url + 'annotations/cat-0', put),
                fetch(url + 'left_out/cat-0', blind),
            ];
            return (await Promise.allSettled(tries)).map((one) => one.status);
        }""",
        served.url,
    )
    assert outcome == ["rejected"] * 3
    assert not list((folder.root / "annotations").rglob("*.png"))
    evil.errors.clear()
    evil.strangers.clear()
