"""Charts as inline SVG: no script, no style attribute, colours from the page's classes.

All text in them is made here or escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT = 440, 196
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 24, 36
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_FLOOR = _HEIGHT - _BOTTOM


def swatch(colour: Sequence[int], other: Sequence[int] | None = None) -> Markup:
    """A small square of an RGB colour; it says nothing that the text beside it does not.

    Args:
        colour: red, green, blue.
        other: of its right half, behind a white line, as the edge of a mask is drawn.
    """
    half = Markup('<path d="M6 .5h5.5v11H6z" fill="rgb({},{},{})"/><path d="M6 0v12"/>')
    return Markup(
        '<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">'
        '<rect x=".5" y=".5" width="11" height="11" rx="2.5" fill="rgb({},{},{})"/>{}</svg>'
    ).format(*map(int, colour), half.format(*map(int, other)) if other else "")


def bar(value: int, largest: int, kind: str = "one") -> Markup:
    """A horizontal bar whose full width is ``largest``; it stands beside its number.

    Args:
        value: 0 to ``largest``; whatever is above nothing is at least a sliver.
        largest: of all bars that are compared.
        kind: class that colours it.
    """
    share = 100 * value / largest if largest else 0.0
    width = max(share, 0.4) if value else 0.0
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" width="100" height="10"/>'
        '<rect class="fill {}" width="{}" height="10"/></svg>'
    ).format(kind, _number(width))


def quartile_bar(quartiles: tuple[float, float, float] | None) -> Markup:
    """The middle half of values in [0, 1] as a bar, their median as a line across it."""
    if quartiles is None:
        return Markup("")
    low, median, high = (100 * value for value in quartiles)
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" y="4" width="100" height="2"/>'
        '<rect class="fill one" x="{}" width="{}" y="1" height="8"/>'
        '<line class="median" x1="{}" x2="{}" y1="0" y2="10"/></svg>'
    ).format(_number(low), _number(max(high - low, 0.6)), _number(median), _number(median))


def histogram(
    counts: Sequence[int], *, label: str, axis: str, median: float | None, kind: str = "one"
) -> Markup:
    """A histogram over [0, 1].

    Args:
        counts: of equal parts of [0, 1], ascending.
        label: what it shows, for those who do not see it.
        axis: name of the horizontal axis.
        median: where a line marks it, if anywhere.
        kind: class that colours it.
    """
    top = round_up(max(counts, default=0))
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    parts = [head.format(_WIDTH, _HEIGHT, label), *_axes(top, axis)]
    step = 1 / max(len(counts), 1)
    for index, count in enumerate(counts):
        if count:
            # a single value among thousands is still to be seen
            height = max(_INNER_HEIGHT * count / top, 1.0)
            parts.append(
                Markup('<rect class="fill {}" x="{}" y="{}" width="{}" height="{}"/>').format(
                    kind,
                    _number(_x(index * step) + 0.5),
                    _number(_FLOOR - height),
                    _number(_INNER_WIDTH * step - 1),
                    _number(height),
                )
            )
    if median is not None:
        parts.append(_median_mark(median))
    return Markup("").join([*parts, Markup("</svg>")])


def _axes(top: int, name: str) -> Iterator[Markup]:
    """Lines at nothing, half and all of the highest count; a scale from 0 to 1 below."""
    for tick in (0.0, 0.5, 1.0):
        y = _number(_FLOOR - tick * _INNER_HEIGHT)
        yield Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
            '<text class="tick" x="{}" y="{}" text-anchor="end" dy=".32em">{}</text>'
        ).format(_LEFT, _WIDTH - _RIGHT, y, y, _LEFT - 7, y, abbreviated(tick * top))
    scale = Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>')
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        yield scale.format(_number(_x(tick)), _FLOOR + 15, f"{tick:g}")
    yield Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>').format(
        _number(_x(0.5)), _HEIGHT - 3, name
    )


def _median_mark(median: float) -> Markup:
    """A line with its value, on the side where there is more room."""
    x = _x(median)
    side, anchor = (5, "start") if median < 0.5 else (-5, "end")
    return Markup(
        '<line class="median" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="mark" x="{}" y="{}" text-anchor="{}">median {}</text>'
    ).format(
        _number(x),
        _number(x),
        _TOP - 8,
        _FLOOR,
        _number(x + side),
        _TOP - 9,
        anchor,
        f"{median:.2f}",
    )


def _x(value: float) -> float:
    return _LEFT + value * _INNER_WIDTH


def round_up(value: int) -> int:
    """The next number with one digit that is even or 1, 5: half of it is a fair tick."""
    if value <= 2:
        return 2
    power = 1
    while value > 10 * power:
        power *= 10
    digit = next(digit for digit in (2, 4, 6, 8, 10) if digit * power >= value)
    return digit * power


def abbreviated(value: float) -> str:
    """A count as it stands at an axis: ``500``, ``1k``, ``2.5M``."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if value >= 10 * size or (value >= size and value % (size / 10) == 0):
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _number(value: float) -> str:
    """Two decimals at most: the same text on every machine."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
