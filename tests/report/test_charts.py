from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.report.charts import abbreviated, bar, histogram, quartile_bar, round_up, swatch

FLOOR, TOP = 160.0, 24.0


def rects(svg, kind="one"):
    tree = ElementTree.fromstring(svg)
    return [rect.attrib for rect in tree.iter("rect") if rect.get("class") == f"fill {kind}"]


def test_bars_are_as_high_as_their_counts():
    svg = histogram([0, 10, 40, 20], label="l", axis="a", median=None)
    heights = [float(rect["height"]) for rect in rects(svg)]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.02)
    assert heights[2] == pytest.approx(2 * heights[0], abs=0.02)
    assert max(heights) == FLOOR - TOP, "40 is the top of its own scale"


def test_what_it_says_is_escaped():
    svg = histogram([1], label='"><script>', axis="<b>&", median=0.5)
    tree = ElementTree.fromstring(svg)
    assert tree.get("aria-label") == '"><script>'
    assert "<b>&" in "".join(tree.itertext())
    assert "<script>" not in svg


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=50), st.none() | st.floats(0, 1))
def test_every_histogram_stays_in_its_frame(counts, median):
    svg = histogram(counts, label="l", axis="a", median=median)
    tree = ElementTree.fromstring(svg)
    for rect in rects(svg):
        assert TOP - 0.01 <= float(rect["y"]) <= FLOOR
        assert 44 <= float(rect["x"]) <= float(rect["x"]) + float(rect["width"]) <= 430.01
    assert len(rects(svg)) == sum(count > 0 for count in counts)
    assert len([line for line in tree.iter("line") if line.get("class") == "median"]) == (
        median is not None
    )


@given(st.integers(0, 10**9))
def test_the_scale_holds_the_highest(value):
    top = round_up(value)
    assert value <= top <= max(2, 10 * value)
    assert top % 2 == 0, "half of it is a tick"


def test_ticks_are_short():
    texts = [abbreviated(float(value)) for value in (0, 1, 40, 900, 1000, 1500, 20_000, 4_000_000)]
    assert texts == ["0", "1", "40", "900", "1k", "1.5k", "20k", "4M"]


def test_a_bar_shows_its_share_and_never_nothing_for_something():
    assert rects(bar(25, 100))[0]["width"] == "25"
    assert float(rects(bar(1, 10**9))[0]["width"]) > 0
    assert rects(bar(0, 100))[0]["width"] == "0"
    assert rects(bar(0, 0))[0]["width"] == "0"


def test_quartiles_are_where_they_belong():
    (box,) = rects(quartile_bar((0.25, 0.5, 0.75)))
    assert (box["x"], box["width"]) == ("25", "50")
    assert quartile_bar(None) == ""


def test_a_swatch_is_its_colour():
    assert 'fill="rgb(128,0,0)"' in swatch((128, 0, 0))
    both = ElementTree.fromstring(swatch((128, 0, 0), (9, 9, 9)))
    assert [part.get("fill") for part in both] == ["rgb(128,0,0)", "rgb(9,9,9)", None]
