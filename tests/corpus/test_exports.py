"""Every folder export: the masks pixel by pixel, interruptions, growth in memory, bad input."""

import dataclasses
from functools import partial

import numpy as np
import pytest

from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.export.coco import CocoFormat
from ovamgen.corpus.export.cvat import CvatFormat
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.label_studio import LabelStudioFormat
from ovamgen.corpus.export.options import ExportOptions
from ovamgen.corpus.export.parquet import ParquetFormat
from ovamgen.corpus.export.ultralytics import UltralyticsFormat
from ovamgen.errors import ConfigError, ShardError
from ovamgen.integrity.verify import verify
from tests.corpus import export_readers as readers
from tests.corpus.corpora import FEW, MANY, patchwork_samples, write_corpus
from tests.runs import digests

# pycocotools' own
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FORMATS = {
    "coco": (CocoFormat, readers.read_coco),
    "coco-class": (lambda: CocoFormat(regions="class"), readers.read_coco),
    "coco-stuff": (lambda: CocoFormat("stuff"), lambda out: readers.read_coco(out, "stuff")),
    "coco-panoptic": (lambda: CocoFormat("panoptic"), readers.read_panoptic),
    "coco-panoptic-class": (lambda: CocoFormat("panoptic", "class"), readers.read_panoptic),
    "ultralytics": (UltralyticsFormat, readers.read_ultralytics),
    "cvat": (CvatFormat, readers.by_name(readers.read_cvat, "ignored")),
    "labelstudio": (LabelStudioFormat, readers.by_name(readers.read_label_studio, "ignore")),
    "parquet": (ParquetFormat, readers.read_parquet),
}
"""What makes each format, and what reads it."""

every_format = pytest.mark.parametrize("kind", FORMATS)
HALVES = ExportOptions.parse(split="train=0.5,val=0.5")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """7 + 4 samples; the shard between them has failures only."""
    root = tmp_path_factory.mktemp("corpus") / "run"
    return write_corpus(root, (7, 0, 4), patchwork_samples, classes=FEW)[0]


@pytest.fixture(scope="module")
def masks(corpus):
    return {sample.key: sample.labels for sample in read_samples(corpus.url)}


@pytest.fixture(scope="module")
def exported(corpus, tmp_path_factory):
    """The folder of each format, made once."""
    made = {}

    def export(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            export_folder(corpus.url, str(made[kind]), FORMATS[kind][0](), HALVES)
        return made[kind]

    return export


def check(found, masks):
    assert sorted(found) == sorted(masks)
    for key, labels in masks.items():
        np.testing.assert_array_equal(found[key], labels, err_msg=key)


@every_format
def test_the_ids_are_those_of_the_masks(exported, masks, kind):
    check(FORMATS[kind][1](exported(kind)), masks)


@every_format
def test_only_some_classes_at_another_size(corpus, masks, tmp_path, kind):
    kept = [7, 254]
    options = ExportOptions.parse(size="48x32", only_classes="lamp,bench")
    export_folder(corpus.url, str(tmp_path), FORMATS[kind][0](), options)
    wanted = {
        key: np.where(np.isin(mask, [*kept, 255]), mask, 0).repeat(2, axis=0).repeat(2, axis=1)
        for key, mask in masks.items()
    }
    check(FORMATS[kind][1](tmp_path), wanted)


@pytest.mark.slow
@every_format
def test_a_set_of_254_classes(tmp_path, kind):
    """As many as a set may have: none of the formats holds fewer."""
    store, _ = write_corpus(
        tmp_path / "run", (66,), partial(patchwork_samples, classes=MANY), classes=MANY
    )
    masks = {sample.key: sample.labels for sample in read_samples(store.url)}
    assert len(np.unique(np.stack(list(masks.values())))) > 150
    export_folder(store.url, str(tmp_path / "out"), FORMATS[kind][0]())
    check(FORMATS[kind][1](tmp_path / "out"), masks)


class Killed(BaseException):
    pass


@every_format
def test_an_interrupted_export_goes_on_to_the_same_files(corpus, exported, tmp_path, kind):
    count = 0

    def kill():
        nonlocal count
        count += 1
        if count == 9:
            raise Killed

    with pytest.raises(Killed):
        export_folder(corpus.url, str(tmp_path), FORMATS[kind][0](), HALVES, after_sample=kill)
    assert (tmp_path / "INCOMPLETE.json").exists()
    assert not (tmp_path / "export.json").exists()
    export_folder(corpus.url, str(tmp_path), FORMATS[kind][0](), HALVES, after_sample=kill)
    assert count == 13  # the first shard was not made again
    assert digests(tmp_path) == digests(exported(kind))
    export_folder(corpus.url, str(tmp_path), FORMATS[kind][0](), HALVES, after_sample=kill)
    assert count == 13


@every_format
def test_the_card_says_how_it_is_opened(exported, corpus, kind):
    card = (exported(kind) / "README.md").read_text()
    assert "## Files and how to open them" in card
    shown = sum(7 in sample.metadata["class_ids"] for sample in read_samples(corpus.url))
    assert f"| 7 | lamp | street lamp | {shown} |" in card
    assert "random weights" in card
    assert "\n\n\n" not in card


@every_format
def test_foreign_folders_and_corpora_without_masks_are_refused(
    corpus, exported, tmp_path, kind, without_masks
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    with pytest.raises(ConfigError, match=r"holds mine\.txt"):
        export_folder(corpus.url, str(tmp_path / "full"), FORMATS[kind][0]())
    with pytest.raises(ConfigError, match="must be empty or hold what the same command made"):
        export_folder(corpus.url, str(exported(kind)), FORMATS[kind][0]())
    with pytest.raises(ShardError, match=r"is not whole .*missing here: mask\.png"):
        export_folder(without_masks, str(tmp_path / "new"), FORMATS[kind][0]())
    with pytest.raises(ConfigError, match="to a local folder"):
        export_folder(corpus.url, "s3://bucket/folder", FORMATS[kind][0]())
    assert not (tmp_path / "new").exists()


def test_verify_says_that_an_export_has_no_records(exported):
    with pytest.raises(ConfigError, match="verify the corpus that it is of"):
        verify(str(exported("coco")))


@pytest.fixture(scope="module")
def without_masks(tmp_path_factory):
    """Images and captions alone, published as a run publishes its shards."""

    def samples(count, *, shard):
        for sample in patchwork_samples(count, shard=shard):
            kept = tuple(pair for pair in sample.members if pair[0] != "mask.png")
            yield dataclasses.replace(sample, members=kept)

    root = tmp_path_factory.mktemp("bare") / "run"
    return write_corpus(root, (2,), samples, classes=FEW)[0].url
