"""Every reader of bytes from outside: a valid file for it, and how it is read.

The law for each: whatever is in the file, it is read, or an error of `ovamgen.errors` says why not.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from ovamgen.annotate.labelme import labelme_mask
from ovamgen.annotate.pictures import foreground
from ovamgen.attribution.heads.grounded import GroundedShape
from ovamgen.attribution.heads.head_file import Head, build_head, load_head
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.classes.loading import default_classes, load_class_set
from ovamgen.classes.prompts.templates import load_templates
from ovamgen.config import build_config, read_config_file
from ovamgen.corpus.dataset import read_samples, segmentation_dataset
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.view import read_view
from ovamgen.engine.array_files import array_names, read_array
from ovamgen.integrity.verify import verify
from ovamgen.pictures.sample_folder import Sample, SampleFolder, read_mask, save_mask
from ovamgen.pictures.voc import VocFolder
from ovamgen.plan.captions import read_captions, read_instances
from ovamgen.run.files import read_plan, read_run_file
from ovamgen.segmentor.backbone import load_backbone_weights
from ovamgen.segmentor.checkpoint import Position, read_position, restore, write_checkpoint
from ovamgen.segmentor.examples import ShardExamples
from ovamgen.segmentor.network import build_network, load_segmentor, save_segmentor
from ovamgen.segmentor.training_log import TrainingLog
from ovamgen.shards.arrays import decode_jpeg, decode_npz, decode_png, encode_jpeg, encode_npz
from ovamgen.shards.manifest import count_classes
from ovamgen.shards.reader import read_tar
from ovamgen.shards.shard_record import finished_shards, read_records
from ovamgen.status.status import failures_by_reason, run_status
from ovamgen.storage.store import LocalStore, open_store
from ovamgen.tokens.authors_tokens import import_authors_tokens
from ovamgen.tokens.banks import export_bank, read_plain_arrays
from tests.fakes import DiscEngine
from tests.pictures.voc_folders import write_voc
from tests.runs import make, run_config
from tests.segmentor.test_network import TINY
from tests.voc import VOC_CLASSES

NAMES = tuple(voc.name for voc in VOC_CLASSES)
WIDTH = 4
SIZE = (32, 48)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How one file is read."""

    name: str
    target: str
    """The file, in the folder that `write_world` fills."""
    read: Callable[[Path], object]
    """Takes the folder."""


def file_reader(target: str, read: Callable[[Path], object], name: str = "") -> Reader:
    return Reader(name=name or target, target=target, read=lambda root: read(root / target))


def write_world(root: Path) -> None:
    """One valid file for each reader."""
    _write_captions(root)
    rng = np.random.default_rng(0)
    pairs = rng.random((len(NAMES), 2, WIDTH)).astype(np.float32)
    bank = TokenBank(class_names=NAMES, pairs=pairs, provenance={"kind": "optimised"})
    bank.save(root / "bank.safetensors")
    export_bank(bank, root / "bank.npz")
    export_bank(bank, root / "bank.npy")
    rows = {voc.phrase.replace(" ", "-"): pairs[voc.id - 1] for voc in VOC_CLASSES}
    np.save(root / "tokens.npy", np.array(rows, dtype=object), allow_pickle=True)
    (root / "config.yaml").write_text(
        "plan: {captions: a.csv, classes: [cat, dog], seed: 3}\nmodel:\n  id: mini\n"
        "synthesis: {steps: 5, guidance: 7.5}\nmasks: {tau: 0.4}\n"
    )
    (root / "classes.yaml").write_text(
        "name: yard\nclasses:\n- {name: pallet, not: [pallet knife], colour: '#ff8800'}\n"
        "- {name: vehicle, id: 9, phrases: [car, bus], synonyms: [fork/lift truck], coco: truck}\n"
    )
    (root / "templates.yaml").write_text(
        "sentences: ['{class} {place}', '{class} and {class2}']\nattributes: ['', old]\n"
        "words: {place: [here, there]}\n"
    )
    _write_pictures(root, rng)
    run = make(run_config(root, count=6), _local(), DiscEngine)
    (root / "out").rename(root / "corpus")
    assert run.records
    _write_view(root)
    write_voc(root / "voc", {"val": 2}, *SIZE)
    samples = [Sample(key="cat-1", class_name="cat", prompt="a cat", seed=1)]
    drawn = {"height": SIZE[0], "width": SIZE[1], "steps": 1}
    settings = {"model": {"id": "mini"}, "synthesis": drawn}
    folder = SampleFolder.create(root / "samples", samples, settings)
    folder.add_image(samples[0], rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8))
    mask = np.zeros(SIZE, bool)
    mask[4:20, 4:20] = True
    save_mask(mask, folder.annotation_path(samples[0]))
    _write_training(root / "training")
    _write_head(root)


def _write_head(root: Path) -> None:
    shape = GroundedShape(
        channels=(4, 4), widths=(2, 2), text_width=3, width=8, feedforward=8, layers=1, patch=2
    )
    network = build_head(shape, 0)
    Head(kind="grounded", network=network, classes=("cat",)).save(root / "head.safetensors")
    torch.save(network.state_dict(), root / "head.pth")


def _local() -> Callable[..., None]:
    from ovamgen.run.local import generate_local

    return generate_local


def _write_captions(root: Path) -> None:
    texts = ["a cat on a sofa", "two dogs in the snow", "ein Vogel über dem Meer, a bird"]
    captions = [{"id": i, "image_id": i + 7, "caption": t} for i, t in enumerate(texts)]
    coco = json.dumps({"info": {"year": 2017}, "annotations": captions})
    (root / "captions.json").write_text(coco)
    (root / "captions.json.gz").write_bytes(gzip.compress(coco.encode(), mtime=0))
    lines = "".join(f'{c["id"]},{c["image_id"]},"{c["caption"]}",cat;dog\n' for c in captions)
    (root / "captions.csv").write_text("id,image_id,caption,classes\n" + lines)
    (root / "captions.tsv").write_text("id\ttext\n1\ta cat\n2\ta dog\n")
    (root / "captions.jsonl").write_text("".join(json.dumps(c) + "\n" for c in captions))
    (root / "captions.txt").write_text("\n".join(texts))
    pq.write_table(pa.Table.from_pylist(captions), root / "captions.parquet")
    instances = {
        "images": [{"id": 7}, {"id": 8}],
        "categories": [{"id": 17, "name": "cat"}, {"id": 90, "name": "toothbrush"}],
        "annotations": [
            {"image_id": 7, "category_id": 17, "area": 55.5, "iscrowd": 0},
            {"image_id": 8, "category_id": 90, "area": 5, "iscrowd": 0},
        ],
    }
    (root / "instances.json").write_text(json.dumps(instances))


def _write_pictures(root: Path, rng: np.random.Generator) -> None:
    labels = rng.integers(0, 3, SIZE, dtype=np.uint8)
    Image.fromarray(labels).save(root / "mask.png")
    Image.fromarray(labels // 2 * 255).save(root / "annotation.png")
    colours = rng.integers(0, 255, (*SIZE, 4), dtype=np.uint8)
    Image.fromarray(colours, "RGBA").save(root / "foreground.png")
    (root / "image.jpg").write_bytes(encode_jpeg(colours[..., :3].copy(), 90))
    maps = rng.integers(0, 255, (2, 4, 6), dtype=np.uint8)
    (root / "heatmaps.npz").write_bytes(encode_npz(maps, np.array([1, 2], np.uint8)))
    np.savez(root / "maps.npz", cat=rng.random(SIZE).astype(np.float32))
    shapes = [
        {"label": "cat", "shape_type": "polygon", "points": [[1, 1], [20, 2], [9, 30]]},
        {"label": "cat", "shape_type": "circle", "points": [[10, 10], [12, 12.5]]},
    ]
    labelme = {"imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": shapes}
    (root / "labelme.json").write_text(json.dumps(labelme))


def _write_view(root: Path) -> None:
    from ovamgen.corpus.select.filters import SelectionSettings
    from ovamgen.corpus.select.select import select

    settings = SelectionSettings(area_quantiles=None)
    select(str(root / "corpus"), str(root / "view"), settings)


def _write_training(folder: Path) -> None:
    folder.mkdir()
    network = build_network(TINY, seed=0)
    save_segmentor(folder, network, TINY, {"step": 1})
    weights = {name: w.contiguous() for name, w in network.backbone.state_dict().items()}
    save_file(weights, folder / "backbone.safetensors")
    layer, optimizer = _layer()
    position = Position(step=1, settings={"a": 1}, data={"b": "c"}, world_size=1)
    write_checkpoint(folder, layer, optimizer, position)
    (folder / "log.csv").write_text("step,loss,learning_rate,images_per_second\n1,0.5,0.1,3\n")


def _layer() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return layer, optimizer


# ---- how each is read


def _read_maps(path: Path) -> None:
    for name in array_names(path):
        read_array(path, name, (None, None))


def _read_config(path: Path) -> None:
    build_config(read_config_file(path))


def _read_status(root: Path) -> None:
    # status, statistics and indexes read the same metadata
    store = LocalStore(root)
    run_status(str(root))
    records = read_records(store)
    failures_by_reason(store, records)
    count_classes(store, records.values())
    corpus = open_corpus(str(root))
    for record in corpus.records:
        corpus.metadata(record)
        corpus.failures(record)


def _read_finished(root: Path) -> None:
    store = LocalStore(root)
    run = read_run_file(store)
    assert run is not None
    finished_shards(store, "train", [0], run["fingerprint"])


def _read_whole_tar(path: Path) -> None:
    with path.open("rb") as file:
        for _ in read_tar(file, path.name):
            pass


def _read_examples(path: Path) -> None:
    examples = ShardExamples(str(path))
    for index in range(len(examples)):
        examples.read(index)


def _read_dataset(path: Path) -> None:
    for _ in segmentation_dataset(str(path)):
        pass


def _read_voc(root: Path) -> None:
    folder = VocFolder.open(root, "val")
    for index in range(len(folder)):
        folder.read(index)


def _read_sample_folder(root: Path) -> None:
    folder = SampleFolder.open(root)
    for sample in folder.samples:
        folder.image(sample)
        folder.annotation(sample)


def _read_checkpoint(root: Path) -> None:
    read_position(root)
    restore(root, *_layer())


def _read_log(root: Path) -> None:
    TrainingLog(root, steps=5, done=3)


def _import_tokens(path: Path) -> None:
    start = np.zeros(WIDTH, np.float32)
    import_authors_tokens(path, start, class_names=NAMES, text_encoder="tiny")


READERS = [
    *(
        file_reader(f"captions.{suffix}", lambda path: read_captions(str(path)))
        for suffix in ("json", "json.gz", "csv", "tsv", "jsonl", "txt", "parquet")
    ),
    file_reader("instances.json", lambda path: read_instances(str(path), default_classes())),
    file_reader("bank.safetensors", TokenBank.load),
    file_reader("head.safetensors", load_head),
    file_reader("head.pth", load_head),
    file_reader("bank.npz", read_plain_arrays),
    file_reader("bank.npy", read_plain_arrays),
    file_reader("tokens.npy", _import_tokens),
    file_reader("config.yaml", _read_config),
    file_reader("classes.yaml", lambda path: load_class_set(str(path)).find("two pallets")),
    file_reader("templates.yaml", lambda path: load_templates(str(path)).about(2)),
    file_reader("mask.png", lambda path: decode_png(path.read_bytes(), SIZE)),
    file_reader("image.jpg", lambda path: decode_jpeg(path.read_bytes())),
    file_reader("heatmaps.npz", lambda path: decode_npz(path.read_bytes())),
    file_reader("annotation.png", read_mask),
    file_reader("foreground.png", lambda path: foreground(path.read_bytes(), SIZE, "it")),
    file_reader("maps.npz", _read_maps),
    file_reader(
        "labelme.json",
        lambda path: labelme_mask(
            path.read_bytes(), SIZE, "it", class_name="cat", known=default_classes()
        ),
    ),
    file_reader("corpus/train-000000.tar", _read_whole_tar),
    file_reader("corpus/train-000000.tar", _read_examples, "tar as examples"),
    file_reader("corpus/train-000000.tar", _read_dataset, "tar as data set"),
    *(
        Reader(name=name, target=f"corpus/{target}", read=lambda root, r=read: r(root / "corpus"))
        for name, target, read in [
            ("tar, decoded", "train-000000.tar", lambda root: [*read_samples(str(root))]),
            ("tar, verified", "train-000000.tar", lambda root: verify(str(root))),
            ("run.yaml", "run.yaml", lambda root: read_run_file(open_store(str(root)))),
            ("run.yaml, verified", "run.yaml", lambda root: verify(str(root))),
            ("plan", "plan.parquet", lambda root: read_plan(open_store(str(root)))),
            ("plan, verified", "plan.parquet", lambda root: verify(str(root))),
            ("record", "manifests/000000.json", _read_status),
            ("record, resumed", "manifests/000000.json", _read_finished),
            ("record, verified", "manifests/000000.json", lambda root: verify(str(root))),
            ("metadata", "metadata/000000.parquet", _read_status),
            ("metadata, verified", "metadata/000000.parquet", lambda root: verify(str(root))),
            ("manifest, verified", "manifest.json", lambda root: verify(str(root))),
        ]
    ),
    *(
        Reader(name=f"view: {target}", target=f"view/{target}", read=read)
        for target in ("selection.json", "selection.parquet")
        for read in [lambda root: read_view(str(root / "view"))]
    ),
    *(
        Reader(name=f"VOC: {target}", target=f"voc/{target}", read=lambda r: _read_voc(r / "voc"))
        for target in (
            "ImageSets/Segmentation/val.txt",
            "SegmentationClass/val_000.png",
            "JPEGImages/val_000.jpg",
        )
    ),
    *(
        Reader(
            name=f"samples: {target}",
            target=f"samples/{target}",
            read=lambda root: _read_sample_folder(root / "samples"),
        )
        for target in ("samples.csv", "synthesis.yaml", "images/cat-1.png")
    ),
    Reader(
        name="checkpoint",
        target="training/checkpoint.safetensors",
        read=lambda root: _read_checkpoint(root / "training"),
    ),
    file_reader("training/segmentor.safetensors", load_segmentor),
    file_reader(
        "training/backbone.safetensors",
        lambda path: load_backbone_weights(build_network(TINY, seed=0).backbone, path),
        "backbone",
    ),
    Reader(
        name="training log", target="training/log.csv", read=lambda r: _read_log(r / "training")
    ),
]
