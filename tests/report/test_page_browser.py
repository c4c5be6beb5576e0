"""The page in a real Chromium: `open_page` fails a test for any error on the console or request."""

import re

import pytest
from playwright.sync_api import expect

from ovamgen.report.write import write_report
from tests.report.corpora import HOSTILE

WIDE, NARROW = 1280, 390


@pytest.fixture
def opened(page_file, open_page):
    def open_it(**options):
        return open_page(page_file.as_uri(), **options).page

    return open_it


def shown(page):
    return page.eval_on_selector_all(
        ".card", "cards => cards.filter(c => !c.hidden && c.offsetParent).map(c => c.dataset.key)"
    )


def values(page, name):
    """A number of every card that is shown, in the order of the page."""
    return page.eval_on_selector_all(
        ".card:not([hidden])", f"cards => cards.map(c => Number(c.dataset.{name}))"
    )


def seen(page):
    """The pixels of the first card's picture, as the browser draws them."""
    return page.locator(".card:not([hidden]) .stack").first.screenshot(animations="disabled")


def slide(page, value, selector="#view"):
    page.locator(selector).fill(str(value))


def test_the_slider_goes_from_image_over_heatmap_to_mask(opened):
    page = opened()
    pictures = []
    for value, name in ((0, "image"), (0.5, ""), (1, "heatmap"), (1.6, "mask"), (2, "mask")):
        slide(page, value)
        pictures.append(seen(page))
        opacity = page.eval_on_selector_all(
            ".card:first-child img",
            "images => images.map(image => Number(getComputedStyle(image).opacity))",
        )
        assert opacity == pytest.approx([1, min(1, value), max(0, value - 1)])
        told = page.locator("#view").get_attribute("aria-valuetext")
        assert told == (name or "between two pictures")
    assert len(set(pictures)) == len(pictures), "every position shows something else"


@pytest.mark.parametrize(("width", "height"), [(WIDE, 800), (NARROW, 844)])
def test_the_first_screen_shows_masks_over_images_before_any_table(opened, width, height):
    page = opened(width=width, height=height)
    stacks = [stack.bounding_box() for stack in page.locator(".stack").all()[:2]]
    for box in stacks:
        assert box["y"] + box["height"] < height * 0.85
    assert page.locator("table").first.bounding_box()["y"] > height
    mask = page.locator(".card .mask").first
    assert mask.evaluate("image => getComputedStyle(image).opacity") == "1"
    legend = page.locator(".legend")
    assert legend.bounding_box()["y"] < stacks[0]["y"]
    for words in ("mask, coloured by class", "its edge", "background", "heatmap: attention"):
        assert words in legend.inner_text()


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_bars_touch_neither_each_other_nor_numbers(opened, width):
    page = opened(width=width)
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    gaps = page.evaluate("""() => [...document.querySelectorAll("td.wide .bar")].flatMap(bar => {
        const next = bar.closest("td").nextElementSibling;
        if (!next || !next.textContent.trim()) return [];
        const text = document.createRange();
        text.selectNodeContents(next);
        return [text.getBoundingClientRect().left - bar.getBoundingClientRect().right];
    })""")
    assert len(gaps) >= 50, "images and pixels of 20 classes, scores of those with a mask"
    assert min(gaps) >= 8


def test_a_narrow_window_has_the_filters_behind_one_line(opened):
    page = opened(width=NARROW)
    assert not page.locator("#order").is_visible()
    page.get_by_text("Filter and order").click()
    page.locator("#order").select_option("best")
    found = values(page, "score")
    assert found == sorted(found, reverse=True)


def test_the_slider_by_keyboard_and_by_pointer(opened):
    page = opened()
    slide(page, 0)
    page.locator("#view").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.locator("#view").input_value() == "0.2"
    page.keyboard.press("End")
    assert page.evaluate("getComputedStyle(document.querySelector('.mask')).opacity") == "1"
    page.get_by_role("button", name="heatmap").first.press("Enter")
    assert page.locator("#view").input_value() == "1"
    # a press on what lies outside the window would reach nothing
    page.locator("#view").scroll_into_view_if_needed()
    box = page.locator("#view").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 8, y, steps=5)
    page.mouse.up()
    expect(page.locator("#view")).to_have_value(re.compile(r"1\.[89].*|2"))


def test_filtering(opened):
    page = opened()
    everything = page.locator(".card").count()
    assert page.locator("#found").inner_text() == f"{everything} of {everything} samples"
    page.locator("#class").select_option("2")
    left = shown(page)
    assert 0 < len(left) < everything
    classes = page.eval_on_selector_all(
        ".card:not([hidden])", "cards => cards.map(c => c.dataset.classes.split(' '))"
    )
    assert all("2" in ids for ids in classes)
    assert page.locator("#found").inner_text() == f"{len(left)} of {everything} samples"
    page.get_by_role("button", name="reset").click()
    expect(page.locator("#found")).to_have_text(f"{everything} of {everything} samples")

    low, high = 0.75, 0.88
    page.locator("#low").fill(str(low))
    page.locator("#high").fill(str(high))
    inside = values(page, "score")
    assert 0 < len(inside) < 48
    assert all(low <= score <= high for score in inside)
    page.locator("#low").fill("")
    page.locator("#high").fill("")

    page.locator("#words").fill("MEADOW photograph")
    prompts = page.eval_on_selector_all(
        ".card:not([hidden]) .prompt", "texts => texts.map(t => t.textContent)"
    )
    assert prompts
    assert all("meadow" in prompt for prompt in prompts)
    page.locator("#words").fill("nothing is like this")
    assert shown(page) == []
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".card:not([hidden])").first).to_be_visible()


def test_ordering_and_showing_more(opened):
    page = opened()
    for order, name, descending in (
        ("best", "score", True),
        ("worst", "score", False),
        ("large", "area", True),
        ("small", "area", False),
    ):
        page.locator("#order").select_option(order)
        found = values(page, name)
        assert len(found) == 48
        assert found == sorted(found, reverse=descending)
    page.locator("#order").select_option("key")
    page.locator("#more").click()
    keys = shown(page)
    assert keys == sorted(keys)
    assert len(keys) == page.locator(".card").count() > 48
    assert page.evaluate("document.activeElement.className") == "zoom script"
    assert not page.locator("#more").is_visible()
    page.locator("#order").select_option("class")
    assert shown(page)[0] == page.locator(".card").first.get_attribute("data-key")


def test_one_sample_large_by_keyboard_alone(opened):
    page = opened()
    reached = set()
    while "zoom script" not in reached and len(reached) < 60:
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"class", "low", "high", "order", "words", "view"} <= reached
    first, second = shown(page)[:2]
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").get_by_role("heading").inner_text() == f"Sample {first}"
    before = page.locator("#large-stack").screenshot()
    slide(page, 0, "#large-view")
    assert page.locator("#large-stack").screenshot() != before
    page.get_by_role("button", name="next").press("Enter")
    assert second in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()
    assert page.evaluate("document.activeElement.closest('.card').dataset.key") == second


def test_nothing_hostile_runs(page_file, open_page):
    watched = open_page(page_file.as_uri())
    page, dialogs = watched.page, []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.locator("#words").fill("onerror")
    card = page.locator(".card:not([hidden])")
    assert HOSTILE.split()[0] in card.locator(".prompt").inner_text()
    card.locator(".zoom").click()
    assert '<script>alert("caption")</script>' in page.locator("#large-words").inner_text()
    assert page.locator(".card script, #large-words script, img[onerror]").count() == 0
    watched.check()

    # and if something were injected all the same, the policy would stop it
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.injected = 1; alert(3)';
        document.body.append(script);
        const image = new Image();
        image.src = 'http://127.0.0.1:9/beacon';
        document.body.append(image);
    }""")
    page.wait_for_timeout(200)
    assert page.evaluate("window.injected") is None
    assert dialogs == []
    assert len(watched.errors) >= 2
    assert all("Content Security Policy" in error for error in watched.errors)
    watched.errors.clear()
    watched.strangers.clear()


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_without_javascript_everything_is_there(opened, width):
    page = opened(width=width, java_script_enabled=False)
    assert page.get_by_role("heading", level=2).count() == 8
    assert page.locator("table").first.is_visible()
    assert page.locator("svg.chart").first.is_visible()
    assert page.locator(".card:visible").count() == page.locator(".card").count() > 48
    boxes = [image.bounding_box() for image in page.locator(".card").first.locator("img").all()]
    assert len({round(box["x"]) for box in boxes}) == 3, "image, heatmap, mask side by side"
    assert min(box["width"] for box in boxes) > 100
    assert page.locator("#view, .zoom, #filters").filter(visible=True).count() == 0


@pytest.mark.parametrize(("width", "dark"), [(WIDE, True), (NARROW, False)])
def test_nothing_sticks_out_and_text_stands_out(opened, width, dark):
    page = opened(width=width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#quality summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for selector in ("body", ".note", ".values", "nav a", ".notice, .lead", ".chart .tick"):
        if page.locator(selector).count():
            assert contrast(page, selector, dark) >= 4.5, selector


def contrast(page, selector, dark):
    """WCAG 2 contrast of a text with the page."""
    ink, paper = page.evaluate(
        """selector => {
            const text = document.querySelector(selector), style = getComputedStyle(text);
            const paper = getComputedStyle(document.body).backgroundColor;
            return [text instanceof SVGElement ? style.fill : style.color, paper];
        }""",
        selector,
    )
    light, shade = sorted(map(luminance, (ink, paper)), reverse=True)
    assert (luminance(paper) < 0.1) == dark
    return (light + 0.05) / (shade + 0.05)


def luminance(colour):
    channels = [int(text) / 255 for text in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_on_paper_all_three_pictures_stand_side_by_side(opened):
    page = opened()
    page.emulate_media(media="print")
    assert page.locator("#filters, #viewer, nav, .zoom").filter(visible=True).count() == 0
    images = page.locator(".card").first.locator("img").all()
    assert len({round(image.bounding_box()["x"]) for image in images}) == 3
    assert len(page.pdf()) > 50_000


def test_no_samples_need_no_script(corpus, tmp_path, open_page):
    write_report(str(corpus), str(tmp_path / "page.html"), max_samples=0)
    page = open_page((tmp_path / "page.html").as_uri()).page
    assert page.get_by_text("There is no sample to show.").is_visible()
