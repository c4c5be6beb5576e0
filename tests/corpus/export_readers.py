"""What other tools read out of an export: by the tool itself where it is installed here.

Each reader gives the class ids of every mask by key, 0 background and 255 ignored.
"""

import io
import json
import zipfile
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import yaml
from PIL import Image, ImageDraw

from tests.corpus.corpora import FEW, MANY


def read_coco(out, form="instances"):
    """By pycocotools; 255 is what crowds cover, or in the stuff form what nothing does."""
    from pycocotools.coco import COCO

    found = {}
    for path in sorted((out / "annotations").glob(f"{form}_*.json")):
        coco = COCO(str(path))
        for image in coco.loadImgs(coco.getImgIds()):
            with Image.open(out / "images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
            labels = np.full((image["height"], image["width"]), 0 if form == "instances" else 255)
            for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"], iscrowd=0)):
                region = coco.annToMask(annotation) == 1
                assert annotation["area"] == region.sum() > 0
                rows, columns = np.nonzero(region)
                left, top, width, height = annotation["bbox"]
                assert (left, top) == (columns.min(), rows.min())
                assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
                # no two overlap
                assert (labels[region] == (0 if form == "instances" else 255)).all()
                labels[region] = annotation["category_id"] % 256  # 256 is the background
            crowds = coco.loadAnns(coco.getAnnIds(imgIds=image["id"], iscrowd=1))
            for annotation in crowds:
                region = coco.annToMask(annotation) == 1
                assert np.isin(labels[region], [0, 255]).all()
                labels[region] = 255
            found[image["file_name"].removesuffix(".jpg")] = labels
    return found


def read_panoptic(out):
    """As COCO documents its panoptic format: segment ids in RGB, void where the id is 0."""
    found = {}
    for path in sorted((out / "annotations").glob("panoptic_*.json")):
        document = json.loads(path.read_text())
        categories = {row["id"]: row for row in document["categories"]}
        images = {row["id"]: row for row in document["images"]}
        for annotation in document["annotations"]:
            with Image.open(path.with_suffix("") / annotation["file_name"]) as picture:
                rgb = np.asarray(picture).astype(int)
            ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
            labels = np.full(ids.shape, 255)
            assert set(np.unique(ids)) - {0} == {row["id"] for row in annotation["segments_info"]}
            for segment in annotation["segments_info"]:
                region = ids == segment["id"]
                assert region.sum() == segment["area"]
                assert segment["category_id"] in categories
                rows, columns = np.nonzero(region)
                left, top, width, height = segment["bbox"]
                assert (left, top) == (columns.min(), rows.min())
                assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
                labels[region] = segment["category_id"] % 256  # 256 is the background
            key = annotation["file_name"].removesuffix(".png")
            assert images[annotation["image_id"]]["file_name"] == f"{key}.jpg"
            found[key] = labels
    return found


def read_ultralytics(out):
    """As Ultralytics documents its semantic layout: masks_dir mirrors the folders of images."""
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert list(data["names"]) == list(range(len(data["names"])))
    found = {}
    for name in ("train", "val", "test"):
        for path in sorted((out / data.get(name, "none")).glob("*.jpg")):
            folder = out / data["masks_dir"] / path.parent.name
            with Image.open(path) as picture, Image.open(folder / f"{path.stem}.png") as mask:
                assert mask.mode == "L"
                assert picture.size == mask.size
                found[path.stem] = np.asarray(mask)
            known = {*data["names"], 255}
            assert set(np.unique(found[path.stem]).tolist()) <= known
    return found


def read_polygons(out, classes):
    """Label files of Ultralytics, the polygons filled; later ones over earlier ones."""
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert data["names"] == {n: entry.name for n, entry in enumerate(classes.classes)}
    found = {}
    for path in sorted((out / "images").glob("*/*.jpg")):
        with Image.open(path) as picture:
            width, height = picture.size
        labels = Image.new("L", (width, height))
        lines = (out / "labels" / path.parent.name / f"{path.stem}.txt").read_text().splitlines()
        for line in lines:
            number, *values = line.split()
            places = np.array(values, float).reshape(-1, 2)
            assert len(places) >= 3
            assert (places > 0).all()
            assert (places < 1).all()
            points = (places * (width, height)).astype(int)
            value = classes.classes[int(number)].id
            ImageDraw.Draw(labels).polygon([*map(tuple, points.tolist())], fill=value)
        found[path.stem] = np.asarray(labels)
    return found


def read_cvat(out):
    """VOC's layout with masks in the colours of ``labelmap.txt``, as CVAT documents it."""
    found = {}
    for path in sorted(out.glob("cvat-*.zip")):
        found |= _read_archive(path, json.loads((out / "labels.json").read_text()))
    return found


def _read_archive(path, labels):
    found = {}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        rows = archive.read("labelmap.txt").decode().splitlines()
        assert rows[0].startswith("#")
        colours = {}
        for row in rows[1:]:
            name, colour, parts, actions = row.split(":")
            assert (parts, actions) == ("", "")
            colours[tuple(map(int, colour.split(",")))] = name
        assert len(colours) == len(rows) - 1
        wanted = {"background": "#000000"} | {row["name"]: row["color"] for row in labels}
        assert {name: "#" + bytes(colour).hex() for colour, name in colours.items()} == wanted
        lists = [name for name in archive.namelist() if name.startswith("ImageSets/Segmentation/")]
        for key in [key for name in lists for key in archive.read(name).decode().split()]:
            with archive.open(f"SegmentationClass/{key}.png") as file, Image.open(file) as mask:
                assert mask.mode == "RGB"
                pixels = np.asarray(mask)
            with archive.open(f"JPEGImages/{key}.jpg") as file, Image.open(file) as image:
                assert image.size == mask.size
            found[key] = [[colours[tuple(pixel)] for pixel in row] for row in pixels.tolist()]
    return found


def decode_brush(data):
    """Label Studio's RLE, bit by bit as thi.ng's rle-pack documents it."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def take(size):
        nonlocal place
        place += size
        return int(bits[place - size : place], 2)

    total, value_bits = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        is_run = take(1)
        length = take(sizes[take(2)]) + 1
        values += (
            [take(value_bits)] * length if is_run else [take(value_bits) for _ in range(length)]
        )
    assert len(bits) - place < 8
    return values


def read_label_studio(out):
    """Tasks with brush predictions; the labels of a mask by name."""
    interface = ElementTree.parse(out / "label_config.xml").getroot()
    (brush,) = interface.iter("BrushLabels")
    known = {label.get("value") for label in brush}
    (image,) = interface.iter("Image")
    found = {}
    for path in sorted((out / "tasks").iterdir()):
        for task in json.loads(path.read_text()):
            place = task["data"][image.get("value").removeprefix("$")]
            name = place.removeprefix("/data/local-files/?d=images/")
            with Image.open(out / "images" / name) as picture:
                width, height = picture.size
            labels = np.full((height, width), "background", object)
            (prediction,) = task["predictions"]
            assert 0 <= prediction["score"] <= 1
            for result in prediction["result"]:
                assert (result["from_name"], result["to_name"]) == ("mask", "image")
                assert (result["original_width"], result["original_height"]) == (width, height)
                (label,) = result["value"]["brushlabels"]
                assert label in known
                rgba = np.reshape(decode_brush(result["value"]["rle"]), (height, width, 4))
                assert (rgba == rgba[..., :1]).all()
                assert set(np.unique(rgba)) <= {0, 255}
                labels[rgba[..., 3] == 255] = label
            found[name.removesuffix(".jpg")] = labels
    return found


def by_name(read, ignored):
    """A reader whose labels are names, as one of ids: those of `FEW` or `MANY`."""
    ids = {entry.name: entry.id for classes in (FEW, MANY) for entry in classes.classes}
    ids |= {"background": 0, ignored: 255}

    def by_id(out):
        return {key: np.vectorize(ids.get)(labels) for key, labels in read(out).items()}

    return by_id


def read_parquet(out):
    """By pyarrow and Pillow alone; `tests/corpus/test_export_parquet.py` has ``datasets``."""
    found = {}
    for path in sorted((out / "data").iterdir()):
        for row in pq.read_table(path).to_pylist():
            with Image.open(io.BytesIO(row["mask"]["bytes"])) as mask:
                found[row["key"]] = np.asarray(mask)
            with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
                assert image.size == mask.size
    return found
