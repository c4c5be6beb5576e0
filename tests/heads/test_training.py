"""Trainings of both heads on the embedded model: small ones, from pictures to a file."""

import csv
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ovamgen.attribution.heads.head_file import load_head
from ovamgen.errors import ConfigError
from ovamgen.heads.examples import choose_examples, digest_of_examples, example_at
from ovamgen.heads.features import FeatureReader
from ovamgen.heads.settings import load_head_preset
from ovamgen.heads.training import train_head, training_folder
from ovamgen.pictures.picture_set import open_pictures
from ovamgen.pictures.sample_folder import Sample, SampleFolder, save_mask
from ovamgen.run.drain import Interrupted
from ovamgen.segmentor.checkpoint import read_position
from tests.golden.reference import load_model
from tests.voc import class_by_name

KINDS = ["grounded", "datasetdm"]
SMALL = {"width": 16, "feedforward": 16, "heads": 2, "layers": 2}


def settings(kind, **changes):
    values = {"steps": 6, "batch_size": 1, "held_out": 0.2, "validate_steps": 4, **SMALL}
    if kind == "grounded":
        values["widths"] = (4, 4, 4)
    return load_head_preset(f"{kind}-mini", **(values | changes))


@pytest.fixture(scope="module")
def pictures():
    return open_pictures("mini", limit=10)


@pytest.fixture(scope="module")
def model():
    return load_model("mini")


@pytest.fixture(scope="module")
def undisturbed(pictures, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    found = {}
    for kind in KINDS:
        file = folder / f"{kind}.safetensors"
        found[kind] = SimpleNamespace(
            file=file, trained=train_head(settings(kind), pictures, model, file)
        )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_leaves_a_head_a_log_and_scores(kind, undisturbed, model):
    got = undisturbed[kind]
    assert (got.trained.steps, got.trained.taken_now) == (6, 6)
    assert got.trained.learnt >= 8
    head = load_head(got.file, kind=kind)
    assert head.provenance["model_digest"] == model.info.digest
    assert set(head.classes) <= {voc.name for voc in map(class_by_name, head.classes)}
    with (training_folder(got.file) / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["4", "6"]
    assert got.trained.miou == pytest.approx(float(rows[-1]["miou"]))
    assert 0 <= got.trained.miou <= 1
    assert head.provenance["held_out_miou"] == f"{got.trained.miou:.4f}"


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_training_goes_on_to_the_same_weights(
    kind, number, pictures, model, undisturbed, tmp_path, monkeypatch
):
    file = tmp_path / "head.safetensors"
    taken = []
    backward = torch.Tensor.backward

    def stop_in_the_third(self, *args, **kwargs):
        backward(self, *args, **kwargs)
        taken.append(1)
        if len(taken) == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(torch.Tensor, "backward", stop_in_the_third)
    with pytest.raises(Interrupted):
        train_head(settings(kind), pictures, model, file)
    assert not file.exists()
    assert read_position(training_folder(file)).step == 3
    monkeypatch.undo()
    trained = train_head(settings(kind), pictures, model, file)
    assert (trained.steps, trained.taken_now) == (6, 3)
    assert file.read_bytes() == undisturbed[kind].file.read_bytes()
    for name in ("log.csv", "validation.csv"):
        one, other = (training_folder(f) / name for f in (file, undisturbed[kind].file))
        assert one.read_bytes() == other.read_bytes()
    # once more: nothing is left to do
    assert train_head(settings(kind), pictures, model, file).taken_now == 0


def test_keeping_features_changes_nothing(pictures, model, undisturbed, tmp_path):
    file = tmp_path / "head.safetensors"
    train_head(settings("grounded", feature_bytes=0), pictures, model, file)
    got, expected = load_head(file), load_head(undisturbed["grounded"].file)
    assert got.sha256 == expected.sha256


def test_another_training_beside_the_file_is_refused(pictures, model, undisturbed):
    file = undisturbed["grounded"].file
    with pytest.raises(ConfigError, match=r"another training, which differs in learning_rate"):
        train_head(settings("grounded", learning_rate=0.5), pictures, model, file)
    with pytest.raises(ConfigError, match="differs in pictures"):
        train_head(settings("grounded"), open_pictures("mini", limit=9), model, file)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_on_a_picture_that_is_learnt_by_heart(kind, model, tmp_path):
    one = open_pictures("mini", limit=1)
    learnt = settings(
        kind, steps=40, held_out=0.0, learning_rate=3e-3, decay=1.0, width=32, layers=2
    )
    file = tmp_path / "head.safetensors"
    train_head(learnt, one, model, file)
    with (training_folder(file) / "log.csv").open() as opened:
        losses = [float(row["loss"]) for row in csv.DictReader(opened)]
    assert losses[-1] < 0.85 * losses[0]


def test_augmented_training_takes_encoded_crops(pictures, model, tmp_path):
    file = tmp_path / "head.safetensors"
    asked = settings("datasetdm", steps=3, augment=True, generated="encode")
    trained = train_head(asked, pictures, model, file)
    assert np.isfinite(trained.loss)


# ---- which pictures


def test_held_out_pictures_are_not_learnt_from(pictures):
    for kind in KINDS:
        split = choose_examples(pictures, settings(kind))
        learnt, held_out = (
            {e.picture.key for e in some} for some in (split.learnt, split.held_out)
        )
        assert learnt
        assert len(held_out) == 2
        assert not learnt & held_out
        assert len(learnt | held_out) == 10
        assert {len(e.classes) for e in split.learnt} == ({1} if kind == "datasetdm" else {1, 2})


def test_the_order_has_every_example_once_a_pass(pictures):
    asked = settings("grounded")
    split = choose_examples(pictures, asked)
    count = len(split.learnt)
    passes = [
        [example_at(split.learnt, turn * count + i, asked).picture.key for i in range(count)]
        for turn in range(2)
    ]
    assert sorted(passes[0]) == sorted(passes[1])
    assert passes[0] != passes[1]
    assert len(set(passes[0])) == count


def test_pictures_are_chosen_as_the_settings_ask(pictures):
    def chosen(**changes):
        return choose_examples(pictures, settings("datasetdm", held_out=0.0, **changes))

    everything = chosen()
    plain = chosen(one_class=True)
    assert 0 < len(plain.learnt) < len(everything.learnt)
    for example in plain.learnt:
        assert len(np.unique(pictures.truth(example.picture))) <= 2
    large = chosen(least_area_px=3000)
    for example in large.learnt:
        assert example.masks(pictures.truth(example.picture)).sum() > 3000
    first = everything.class_names[0]
    assert chosen(classes=(first,)).class_names == (first,)
    firsts = chosen(pictures_per_class=1)
    assert len({e.picture.key for e in firsts.learnt}) <= len(everything.class_names)
    named = chosen(prompt="a photo of a {class}", names="joined")
    assert all(e.prompt == f"a photo of a {e.classes[0].name}" for e in named.learnt)
    assert digest_of_examples(pictures, named) != digest_of_examples(pictures, everything)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"least_area_px": 10**6}, "is left to learn from"),
        ({"classes": ("unicorn",)}, "no picture of .* shows unicorn"),
        ({"held_out": 0.01}, "leaves none to score"),
    ],
)
def test_a_choice_that_leaves_nothing_is_refused(changes, told, pictures):
    with pytest.raises(ConfigError, match=told):
        choose_examples(pictures, settings("grounded", **changes))


# ---- features of generated pictures


@pytest.fixture
def samples(model, tmp_path):
    """Two drawn pictures with painted masks."""
    from ovamgen.config import SynthesisConfig
    from ovamgen.diffusion.synthesis import Synthesiser

    drawn_with = {"model": {"id": "mini"}, "synthesis": {"steps": 4}}
    rows = [
        Sample(key=f"cat-{n}", class_name="cat", prompt="a photograph of a cat", seed=n)
        for n in range(2)
    ]
    folder = SampleFolder.create(tmp_path / "samples", rows, drawn_with)
    synthesiser = Synthesiser(model, SynthesisConfig(steps=4))
    for row in rows:
        folder.add_image(row, synthesiser.draw([row.prompt], [row.seed]).images[0])
        mask = np.zeros((128, 128), bool)
        mask[30:90, 40:100] = True
        save_mask(mask, folder.annotation_path(row))
    return open_pictures(tmp_path / "samples")


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_picture_has_the_features_of_its_drawing(kind, samples, model):
    from ovamgen.config import SynthesisConfig
    from ovamgen.diffusion.features import FeatureRecorder
    from ovamgen.diffusion.synthesis import Synthesiser

    class Last:
        before_upsampling = with_attention = kind == "datasetdm"

        def wants_features(self, timestep):
            return timestep == 1

        def take_features(self, features, attention):
            self.levels = [[*f, *a] for f, a in zip(features, attention, strict=True)]

    example = choose_examples(samples, settings(kind, held_out=0.0)).learnt[1]
    sink = Last()
    with FeatureRecorder(model.pipe.unet, True, sink):
        synthesiser = Synthesiser(model, SynthesisConfig(steps=4))
        synthesiser.draw([example.prompt], [example.picture.seed])
    again = FeatureReader(model, kind, samples, draw=True)
    levels = again.levels(example)
    for ours, drawn in zip(levels, sink.levels, strict=True):
        for a, b in zip(ours, drawn, strict=True):
            assert torch.equal(a, b)
    assert again.nbytes((128, 128)) == sum(t.nbytes for items in levels for t in items)
    # and encoded, they are close to it
    encoded = FeatureReader(model, kind, samples, draw=False).levels(example)
    a, b = encoded[-1][0], levels[-1][0]
    assert float((a - b).norm() / b.norm()) < 0.5
    assert not torch.equal(a, b)
