"""Regions as polygons, one each: for formats that know no holes and no pixels.

Corners are the centres of a region's outermost pixels, which is where OpenCV has them and what its
filling draws again; a hole is joined to its outline by a cut of no width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import contourpy
import numpy as np
from jaxtyping import Bool, Int64
from PIL import Image, ImageDraw

_NEAR_THE_INSIDE = 0.999
"""Between 0 outside and 1 inside, the level that lies at the centres of the pixels inside."""


def polygons_of(region: Bool[np.ndarray, "H W"]) -> Iterator[Int64[np.ndarray, "_ 2"]]:
    """The polygons of a region as (x, y) of pixels; at least three points each, not closed.

    Pixels that touch at a corner alone are in different polygons.
    """
    values = np.pad(region, 1).astype(np.float64)
    generator = contourpy.contour_generator(z=values, fill_type="OuterOffset")
    for points, offsets in zip(*generator.filled(_NEAR_THE_INSIDE, 2), strict=True):
        rings = [
            _corners(np.rint(points[start:end]).astype(np.int64) - 1)
            for start, end in itertools.pairwise(offsets.tolist())
        ]
        outline = rings[0]
        for hole in rings[1:]:
            outline = _joined(outline, hole)
        yield np.resize(outline, (max(len(outline), 3), 2))


def draw_polygons(
    polygons: list[Int64[np.ndarray, "_ 2"]], height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"]:
    """The pixels that the polygons cover, outlines included."""
    covered = np.zeros((height, width), bool)
    for polygon in polygons:
        picture = Image.new("1", (width, height))
        draw = ImageDraw.Draw(picture)
        points = [(int(x), int(y)) for x, y in polygon]
        draw.polygon(points, fill=1)
        # Pillow leaves out pixels of an outline that comes back over itself, as a cut does
        draw.line([*points, points[0]], fill=1)
        covered |= np.asarray(picture)
    return covered


def _corners(ring: Int64[np.ndarray, "_ 2"]) -> Int64[np.ndarray, "_ 2"]:
    """A closed ring without its last point, points that are there twice, and those on a line."""
    ring = ring[:-1]
    moved = np.any(ring != np.roll(ring, 1, axis=0), axis=1)
    if not moved.any():
        return ring[:1]
    ring = ring[moved]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    # where a line comes back over itself its end is a corner as well
    returns = (before * after).sum(axis=1) < 0
    return ring[turns | returns]


def _joined(
    outline: Int64[np.ndarray, "_ 2"], hole: Int64[np.ndarray, "_ 2"]
) -> Int64[np.ndarray, "_ 2"]:
    """One ring of an outline and a hole, cut where they are nearest."""
    distances = ((outline[:, None] - hole[None]) ** 2).sum(axis=-1)
    here, there = np.unravel_index(np.argmin(distances), distances.shape)
    around = np.concatenate([hole[there:], hole[: there + 1]])
    return np.concatenate([outline[: here + 1], around, outline[here:]])
