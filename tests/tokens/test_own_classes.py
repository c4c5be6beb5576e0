"""Tokens of classes that are not VOC's, from samples that say which they are of."""

import json
import shutil

import pytest

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import ConfigError
from ovamgen.pictures.draw import class_samples
from ovamgen.pictures.sample_folder import SampleFolder
from ovamgen.tokens.optimise import OptimiseRequest, optimise_tokens
from tests.tokens.conftest import sample

OWN = ClassSet.from_record(
    {
        "name": "own",
        "classes": [
            {"id": 3, "name": "furniture", "phrases": ["dining table", "sofa"]},
            {"id": 9, "name": "cat"},
        ],
    }
)


@pytest.fixture(scope="module")
def folder(training, tmp_path_factory):
    """The pictures of `training`, as samples of an own set: what they show is a super-class."""
    root = tmp_path_factory.mktemp("own") / "samples"
    samples = [sample("cat", 1), sample("furniture", 3, "dining table")]
    made = SampleFolder.create(root, samples, training.settings, OWN)
    for own, other in zip(samples, (training.samples[0], training.samples[2]), strict=True):
        shutil.copy(training.image_path(other), made.image_path(own))
        shutil.copy(training.annotation_path(other), made.annotation_path(own))
    return made


def test_a_folder_says_which_classes_it_is_of(folder):
    again = SampleFolder.open(folder.root)
    assert again.classes == OWN
    assert "classes" not in again.settings


def test_a_pair_is_learnt_for_each_class_of_the_set(folder, tmp_path):
    out = tmp_path / "bank.safetensors"
    request = OptimiseRequest(samples=str(folder.root), out=str(out), steps=2)
    done = optimise_tokens(request)
    assert not done.failures
    bank = TokenBank.load(out)
    assert bank.class_names == ("furniture", "cat")
    assert ClassSet.from_record(json.loads(bank.provenance["class_set"])) == OWN


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("coco",), "are of the classes own, not of coco"),
        (("zebra",), "unknown class 'zebra'"),
    ],
)
def test_classes_that_the_samples_are_not_of(folder, tmp_path, classes, message):
    out = str(tmp_path / "bank.safetensors")
    with pytest.raises(ConfigError, match=message):
        optimise_tokens(OptimiseRequest(samples=str(folder.root), out=out, classes=classes))


def test_a_super_class_is_drawn_as_each_of_its_phrases():
    prompts = [s.prompt for s in class_samples(per_class=3, classes=OWN, names=["furniture"])]
    assert prompts == [
        "A photograph of a dining table",
        "A photograph of a sofa",
        "A photograph of a dining table",
    ]
