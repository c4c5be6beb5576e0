"""Exports read by the other tools themselves, each in an environment of its own.

datumaro, label-studio-sdk and ultralytics pin versions that cannot stand beside ovamgen's, and the
last one is under the AGPL. ``OVAMGEN_TEST_TOOLS`` is a folder of environments that are kept;
without it they are made anew.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.export.coco import CocoFormat
from ovamgen.corpus.export.cvat import CvatFormat
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.label_studio import LabelStudioFormat
from ovamgen.corpus.export.options import ExportOptions
from ovamgen.corpus.export.ultralytics import UltralyticsFormat
from tests.corpus.corpora import FEW, patchwork_samples, write_corpus
from tests.shards.samples import make_sample, make_spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PACKAGES = {
    "datumaro": ["datumaro==1.13.12"],
    "labelstudio": ["label-studio-sdk==2.1.2"],
    "ultralytics": ["torch==2.13.0", "ultralytics==8.4.190"],
}
HALVES = ExportOptions.parse(split="train=0.5,val=0.5")


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """Runs a program with a tool; what it leaves in ``found``, arrays by key, comes back."""
    kept = os.environ.get("OVAMGEN_TEST_TOOLS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("tools")

    def run(tool, program, out, tmp_path):
        python = folder / tool / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", folder / tool], check=True)
            command = [python, "-m", "pip", "install", "--quiet", *PACKAGES[tool]]
            if (done := subprocess.run(command, capture_output=True, text=True)).returncode:
                pytest.skip(f"{' '.join(PACKAGES[tool])} cannot be installed: {done.stderr[-300:]}")
        target = tmp_path / "found.npz"
        code = (
            "import numpy as np, pathlib\n"
            f"out, found = pathlib.Path({str(out)!r}), {{}}\n"
            f"{program}\nnp.savez({str(target)!r}, **found)\n"
        )
        # neither this repository nor what is installed beside it
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "true"}
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(target) as arrays:
            return dict(arrays), done.stdout

    return run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus") / "run"
    return write_corpus(root, (20, 20), patchwork_samples, classes=FEW)[0]


@pytest.fixture(scope="module")
def masks(corpus):
    return {sample.key: sample.labels for sample in read_samples(corpus.url)}


def check(found, masks):
    assert sorted(found) == sorted(masks)
    for key, labels in masks.items():
        np.testing.assert_array_equal(found[key], labels, err_msg=key)


IDS = f"ids = {dict([('background', 0), ('ignored', 255)] + [(e.name, e.id) for e in FEW.classes])}"


def test_datumaro_reads_cvats_archive(corpus, masks, tools, tmp_path):
    export_folder(corpus.url, str(tmp_path / "out"), CvatFormat(), HALVES)
    found, said = tools(
        "datumaro",
        f"""
import zipfile
from datumaro import AnnotationType, Dataset
zipfile.ZipFile(out / "cvat-000000.zip").extractall("unzipped")
{IDS}
dataset = Dataset.import_from("unzipped", "voc_segmentation")
names = [label.name for label in dataset.categories()[AnnotationType.label]]
for item in dataset:
    assert item.media.data.shape == (16, 24, 3), item.media.data.shape
    labels = np.zeros((16, 24), int)
    for annotation in item.annotations:
        labels[annotation.image == 1] = ids[names[annotation.label]]
    found[item.id] = labels
print(sorted(dataset.subsets()))
""",
        tmp_path / "out",
        tmp_path,
    )
    check(found, masks)
    assert "['train', 'val']" in said


@pytest.mark.parametrize("form", ["instances", "panoptic"])
def test_datumaro_reads_cocos_layout(corpus, masks, tools, tmp_path, form):
    export_folder(corpus.url, str(tmp_path / "out"), CocoFormat(form))
    kind = "coco_instances" if form == "instances" else "coco_panoptic"
    found, _ = tools(
        "datumaro",
        f"""
from datumaro import AnnotationType, Dataset
{IDS}
dataset = Dataset.import_from(str(out), {kind!r})
names = [label.name for label in dataset.categories()[AnnotationType.label]]
for item in dataset:
    labels = np.full((16, 24), 0 if {form!r} == "instances" else 255)
    for annotation in item.annotations:
        if annotation.type == AnnotationType.mask:
            crowd = annotation.attributes.get("is_crowd")
            labels[annotation.image == 1] = 255 if crowd else ids[names[annotation.label]]
    found[item.id] = labels
""",
        tmp_path / "out",
        tmp_path,
    )
    check(found, masks)


def test_label_studios_own_decoder(corpus, masks, tools, tmp_path):
    export_folder(corpus.url, str(tmp_path / "out"), LabelStudioFormat(), HALVES)
    found, _ = tools(
        "labelstudio",
        f"""
import json
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.objects import PredictionValue
{IDS}
ids["ignore"] = 255
interface = LabelInterface((out / "label_config.xml").read_text())
for path in sorted((out / "tasks").iterdir()):
    for task in json.loads(path.read_text()):
        labels = np.zeros((16, 24), int)
        (prediction,) = task["predictions"]
        assert interface.validate_prediction(prediction), prediction
        for result in prediction["result"]:
            layer = decode_rle(result["value"]["rle"]).reshape(16, 24, 4)[..., 3]
            labels[layer == 255] = ids[result["value"]["brushlabels"][0]]
        found[task["data"]["key"]] = labels
""",
        tmp_path / "out",
        tmp_path,
    )
    check(found, masks)


DATASET = """
from ultralytics.cfg import get_cfg
from ultralytics.data import build
from ultralytics.data.utils import check_det_dataset
import ultralytics.data.dataset as kinds
data = check_det_dataset(str(out / "data.yaml"), autodownload=False)
"""


def test_ultralytics_checks_the_masks(corpus, masks, tools, tmp_path):
    export_folder(corpus.url, str(tmp_path / "out"), UltralyticsFormat(), HALVES)
    found, _ = tools(
        "ultralytics",
        DATASET
        + """
for split in ("train", "val"):
    dataset = kinds.SemanticDataset(
        img_path=data[split], data=data, imgsz=24, augment=False, task="semantic", hyp=get_cfg()
    )
    assert len(dataset) == len(list((out / "images" / split).iterdir())), len(dataset)
    for index, label in enumerate(dataset.labels):
        found[pathlib.Path(label["im_file"]).stem] = dataset.load_mask(index)
""",
        tmp_path / "out",
        tmp_path,
    )
    check(found, masks)


def test_ultralytics_draws_the_polygons_as_the_card_says(tools, tmp_path):
    """Discs of 70 pixels, as objects are: not parts of a few."""

    def samples(count, *, shard):
        specs = [make_spec(index, shard=shard) for index in range(count)]
        return (make_sample(spec, height=120, width=160) for spec in specs)

    store, _ = write_corpus(tmp_path / "run", (30,), samples)
    export_folder(store.url, str(tmp_path / "out"), UltralyticsFormat("polygons"), HALVES)
    found, _ = tools(
        "ultralytics",
        DATASET
        + """
from ultralytics.data.utils import add_polygon_background
data = add_polygon_background(data)
for split in ("train", "val"):
    dataset = kinds.PolygonSemanticDataset(
        img_path=data[split], data=data, imgsz=160, augment=False, task="semantic", hyp=get_cfg()
    )
    for index, label in enumerate(dataset.labels):
        mask = dataset.load_mask(index, image_shape=(120, 160))
        background = mask == data["bg_class_idx"]
        found[pathlib.Path(label["im_file"]).stem] = np.where(background, 0, mask + 1)
""",
        tmp_path / "out",
        tmp_path,
    )
    ious = []
    for sample in read_samples(store.url):
        (label,) = sample.metadata["class_ids"]
        mine, theirs = sample.labels == label, found[sample.key] == label
        ious.append((mine & theirs).sum() / (mine | theirs).sum())
    assert len(ious) == 30
    card = (tmp_path / "out" / "README.md").read_text()
    (told,) = [line for line in card.splitlines() if line.startswith("| IoU with the masks")]
    print("\nIoU by Ultralytics", np.mean(ious), min(ious), told)
    assert np.mean(ious) == pytest.approx(float(told.split("|")[2]), abs=0.002)
