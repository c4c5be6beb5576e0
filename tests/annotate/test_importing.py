"""Masks painted elsewhere: what is taken in, and what each bad file is told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from ovamgen.annotate.annotations import Annotations
from ovamgen.annotate.importing import import_masks
from ovamgen.errors import IncompleteError
from tests.annotate.conftest import CAT, HEIGHT, TABLE, WIDTH, disc, iou


def shape(kind="polygon", label="cat", points=((20, 10), (59, 10), (59, 49), (20, 49))):
    return {"label": label, "shape_type": kind, "points": [list(point) for point in points]}


@pytest.fixture
def write(tmp_path):
    """Writes a file of labelme and gives its path."""

    def write_it(*shapes, name="cat-0.json", **fields):
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": list(shapes),
            "imagePath": "cat-0.png",
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        path = tmp_path / name
        path.write_text(json.dumps(content | fields), "utf-8")
        return path

    return write_it


def block(rows=slice(10, 50), columns=slice(20, 60)):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[rows, columns] = True
    return mask


def test_a_polygon_of_labelme_fills_its_pixels(folder, write):
    done = import_masks(folder, [write(shape())])
    assert (done.keys, done.failures) == (("cat-0",), ())
    assert np.array_equal(folder.annotation(CAT), block())


def test_rectangles_and_circles_join(folder, write):
    path = write(
        shape("rectangle", points=[(59, 49), (20, 10)]),
        shape("circle", points=[(150, 60), (150 + 18, 60 + 24)]),
    )
    import_masks(folder, [path])
    assert iou(folder.annotation(CAT), block() | disc(60.5, 150.5, 30.5)) > 0.98


def test_of_several_labels_the_samples_class_is_taken_or_the_one_named(folder, write):
    # a synonym of diningtable; points far outside are cut off
    table = shape(label="dining table", points=[(-1e5, -5), (99, -5), (99, 400), (-1e5, 400)])
    path = write(shape(), table, name="table_1.json")
    import_masks(folder, [path])
    assert np.array_equal(folder.annotation(TABLE), block(slice(None), slice(0, 100)))
    import_masks(folder, [path], label="cat", overwrite=True)
    assert np.array_equal(folder.annotation(TABLE), block())


def test_labels_are_mapped_to_classes(folder, write):
    left = shape(label="animal")
    right = shape("rectangle", "puss", [(100, 10), (119, 49)])
    path = write(left, right, shape(label="sofa", points=[(0, 0), (9, 0), (9, 9)]))
    done = import_masks(folder, [path], classes={"animal": "cat", "puss": "Cats"})
    assert np.array_equal(folder.annotation(CAT), block() | block(columns=slice(100, 120)))
    assert done.left_out == ((str(path), ("sofa",)),)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "LA", "I;16"])
def test_any_png_with_foreground(folder, tmp_path, mode):
    pixels = block().astype(np.uint8)
    if mode == "P":
        picture = Image.fromarray(pixels)
        picture.putpalette([200, 0, 0, 0, 0, 0])  # the value counts, not the colour
    elif mode in ("RGBA", "LA"):
        white = Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).convert(mode)
        white.putalpha(Image.fromarray(pixels * 255))
        picture = white
    elif mode == "I;16":
        picture = Image.fromarray(pixels.astype(np.uint16))
    elif mode == "1":
        picture = Image.fromarray(block())
    else:
        picture = Image.fromarray(pixels * 7).convert(mode)
    picture.save(tmp_path / "cat-0.png")
    import_masks(folder, [tmp_path / "cat-0.png"])
    assert np.array_equal(folder.annotation(CAT), block())


def test_a_smoothed_edge_is_foreground(folder, tmp_path):
    pixels = block().astype(np.uint8) * 255
    pixels[9, 20:60] = 40
    Image.fromarray(pixels).save(tmp_path / "cat-0.png")
    import_masks(folder, [tmp_path / "cat-0.png"])
    assert np.array_equal(folder.annotation(CAT), block(slice(9, 50)))


@pytest.mark.parametrize(
    ("fields", "shapes", "reason"),
    [
        ({"imageHeight": WIDTH, "imageWidth": HEIGHT}, [shape()], "must be about 120x200 pixels"),
        ({"imageHeight": None}, [shape()], "say Nonex200"),
        ({"shapes": 3}, [], "no list 'shapes'"),
        ({}, [], "must have a shape"),
        ({}, [shape("line", points=[(0, 0), (1, 1)])], "no area here"),
        ({}, [shape(points=[(0, 0), (1, 1)])], "3 or more points"),
        ({}, [shape(points=[(0, 0), (1, 1), (2,)])], "3 or more points"),
        ({}, [shape(points=[(0, 0), (1, 1), ("2", 1)])], "3 or more points"),
        ({}, [shape(points=[(0, 0), (9, math.nan), (2, 1)])], "3 or more points"),
        ({}, [shape(points=[(0, 0), (9, 1e300), (2, 1)])], "3 or more points"),
        ({}, [shape("circle", points=[(0, 0)])], "2 points"),
        ({}, [shape(label="dog"), shape(label="pony")], "'cat', it has dog, pony: say which"),
        ({}, [shape(label="dog")], "with --label dog, or with --map dog=cat"),
        ({}, [shape(points=[(300, 300), (400, 300), (400, 400)])], "it is empty"),
    ],
)
def test_what_is_wrong_in_a_json_is_named(folder, write, fields, shapes, reason):
    done = import_masks(folder, [write(*shapes, **fields)])
    assert done.keys == ()
    assert reason in done.failures[0][1]
    assert "cat-0.json" in done.failures[0][1]
    assert not list((folder.root / "annotations").iterdir())


def test_a_bad_file_stops_no_other(folder, write, tmp_path):
    (tmp_path / "dog-2.json").write_bytes(b"{")
    Image.fromarray(block().T).save(tmp_path / "dog-2.png")
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "table_1.png")
    files = [
        tmp_path / "nobody.png",
        tmp_path / "dog-2.json",
        tmp_path / "dog-2.png",
        tmp_path / "table_1.png",
        tmp_path / "dog-2.bmp",
        tmp_path / "missing" / "dog-2.png",
        write(shape()),
        write(shape()),
    ]
    seen = []
    done = import_masks(folder, files, on_file=lambda *both: seen.append(both))
    assert done.keys == ("cat-0",)
    expected = ["no sample", "cannot be read", "got 200x120", "it is empty", "ends in '.bmp'"]
    expected += ["cannot be read", "is the second file"]
    assert len(done.failures) == len(expected)
    for (_, reason), text in zip(done.failures, expected, strict=True):
        assert text in reason
    assert [file for file, _ in seen] == [str(file) for file in files]
    with pytest.raises(IncompleteError, match="7 of 8 files"):
        done.check_complete()


def test_annotations_are_replaced_only_when_that_is_said(folder, write):
    annotations = Annotations(folder)
    annotations.save(CAT, disc(60, 100, 20), annotations.version(CAT))
    path = write(shape())
    assert "give --overwrite" in import_masks(folder, [path]).failures[0][1]
    assert np.array_equal(folder.annotation(CAT), disc(60, 100, 20))
    assert import_masks(folder, [path], overwrite=True).keys == ("cat-0",)
    assert np.array_equal(folder.annotation(CAT), block())
    # the same mask again is no conflict
    assert import_masks(folder, [path]).keys == ("cat-0",)
    annotations.leave_out(CAT, annotations.version(CAT))
    assert "left out already" in import_masks(folder, [path]).failures[0][1]
