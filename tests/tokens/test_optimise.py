"""From annotated samples to a bank: real drawings by the golden pipeline, one process."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ovamgen.attribution.stored import StoredQueries
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.recorder import cross_attention_layers
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.errors import ConfigError, IncompleteError, MethodError
from ovamgen.masks.iou import FINE_TAUS
from ovamgen.pictures.sample_folder import SampleFolder, save_mask
from ovamgen.run.drain import Interrupted
from ovamgen.tokens.learning import TokenLearner
from ovamgen.tokens.memory import query_memory
from ovamgen.tokens.optimise import OptimiseRequest, make_bank, optimise_tokens, prepare
from ovamgen.tokens.partial import PartialBank
from tests.attribution.stored_maps import evaluate
from tests.golden.reference import TINY_SD, tiny_sd
from tests.tokens.conftest import HEIGHT, WIDTH, disc


def request_for(folder, out, **changes):
    values = {"samples": str(folder.root), "out": str(out), "steps": 6}
    return OptimiseRequest(**(values | changes))


@pytest.fixture(scope="module")
def finished(training, held_out, tmp_path_factory):
    place = tmp_path_factory.mktemp("finished")
    done = optimise_tokens(
        request_for(
            training,
            place / "bank.safetensors",
            validate=str(held_out.root),
            report=str(place / "report"),
            model=str(TINY_SD),
        )
    )
    return place, done


def test_the_bank_is_learnt_and_says_how(finished):
    place, done = finished
    bank = TokenBank.load(place / "bank.safetensors")
    assert bank.class_names == ("cat", "diningtable")
    assert bank.sha256 == done.bank.sha256
    info = tiny_sd().info
    said = bank.provenance
    assert (said["model"], said["model_digest"]) == (str(TINY_SD), info.digest)
    assert (said["preset"], said["steps"], said["loss"]) == ("paper", "6", "binary-cross-entropy")
    table = json.loads(said["class diningtable"])
    assert (table["samples"], table["seeds"]) == (["diningtable-3"], [3])
    assert table["loss_best"] < table["loss_initial"]
    assert 0 <= table["iou_training"] <= 1
    assert not list(place.glob("*.partial"))


def test_both_rows_start_from_the_encoder_and_are_trained(finished):
    _, done = finished
    loaded = tiny_sd()
    from ovamgen.diffusion.text import encode_text

    text = encode_text(loaded.pipe, "A photograph of a dining table")
    result = done.results["diningtable"]
    # <SoT> and "table", the last sub-token before <EoT>, in its prompt (methods 2.5)
    expected = text.rows[[0, text.words.index("<EoT>") - 1]].numpy()
    np.testing.assert_allclose(result.initial, expected, atol=1e-6)
    assert (np.abs(result.pair - result.initial).max(axis=1) > 1e-3).all()


def test_the_reported_iou_is_that_of_the_bank_s_maps(finished, training, held_out):
    """Drawn, attributed and thresholded here once more by the plain route."""
    place, _ = finished
    report = json.loads((place / "report" / "tokens.json").read_text())
    bank = TokenBank.load(place / "bank.safetensors")
    loaded = tiny_sd()
    layers = cross_attention_layers(loaded.pipe.unet)
    settings = SynthesisConfig(steps=2, height=HEIGHT, width=WIDTH)
    hits = claimed = 0
    for sample in [s for s in held_out.samples if s.class_name == "cat"]:
        sink = StoredQueries()
        Synthesiser(loaded, settings).draw(
            [sample.prompt], [sample.seed], listeners=[(sink, "unconditional")]
        )
        with torch.no_grad():
            maps = evaluate(sink, layers, torch.from_numpy(bank.select(["cat"])[0]))
        scaled = maps[:, 1:] / maps[:, 1:].max()
        large = torch.nn.functional.interpolate(scaled, (HEIGHT, WIDTH), mode="bilinear")
        mask = held_out.annotation(sample)
        found = large[0, 0].numpy() > 0.8
        hits, claimed = hits + (found & mask).sum(), claimed + (found | mask).sum()
    cat = report["classes"]["cat"]
    assert cat["held_out_samples"] == 2
    # a pixel on the threshold may fall to either side
    assert cat["held_out"]["optimised"]["iou_at_0.8"] == pytest.approx(hits / claimed, abs=2e-3)
    assert set(cat["training"]) == {"words", "initial", "optimised"}


def test_the_report_is_complete(finished):
    place, done = finished
    report = place / "report"
    assert sorted(path.name for path in report.rglob("*.*")) == [
        "cat.png",
        "diningtable.png",
        "loss_curves.pdf",
        "loss_curves.png",
        "losses.csv",
        "tokens.csv",
        "tokens.json",
    ]
    rows = list(csv.DictReader((report / "tokens.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == ["cat", "diningtable"]
    assert float(rows[0]["loss_best"]) == round(float(done.results["cat"].losses.min()), 4)
    losses = list(csv.reader((report / "losses.csv").read_text().splitlines()))
    assert losses[0] == ["step", "cat", "diningtable"]
    assert [float(row[1]) for row in losses[1:]] == pytest.approx(done.results["cat"].losses)
    for path in report.rglob("*.png"):
        with Image.open(path) as picture:
            picture.load()
            assert picture.width > 2 * picture.height
            assert len(picture.convert("L").getcolors(256)) > 20


def test_a_call_that_was_stopped_goes_on_and_ends_in_the_same_bytes(
    finished, training, held_out, tmp_path, monkeypatch
):
    place, _ = finished
    out = tmp_path / "bank.safetensors"
    again = request_for(training, out, validate=str(held_out.root), report=str(tmp_path / "report"))
    learn, asked = TokenLearner.learn, []

    def stopped(self, task, on_step=None):
        if task.class_name == "diningtable":
            raise Interrupted(15)
        return learn(self, task, on_step)

    monkeypatch.setattr(TokenLearner, "learn", stopped)
    with pytest.raises(Interrupted):
        optimise_tokens(again)
    assert not out.exists()
    assert [path.name for path in (tmp_path / "bank.safetensors.partial").iterdir()] == [
        "cat.safetensors"
    ]

    def counted(self, task, on_step=None):
        asked.append(task.class_name)
        return learn(self, task, on_step)

    monkeypatch.setattr(TokenLearner, "learn", counted)
    optimise_tokens(again)
    assert asked == ["diningtable"]
    assert out.read_bytes() == (place / "bank.safetensors").read_bytes()
    for path in (place / "report").rglob("*.*"):
        assert (tmp_path / "report" / path.relative_to(place / "report")).read_bytes() == (
            path.read_bytes()
        ), path.name
    with pytest.raises(ConfigError, match="exists already"):
        optimise_tokens(again)


def test_only_whole_classes_of_equal_input_and_settings_count(
    finished, training, held_out, tmp_path
):
    _, done = finished
    out = tmp_path / "bank.safetensors"
    partial = PartialBank(out)
    for result in done.results.values():
        partial.add(result)

    def found(**changes):
        values = {"validate": str(held_out.root)} | changes
        config, tasks = prepare(request_for(training, out, **values))
        return list(partial.finished(tasks, config))

    assert found() == ["cat", "diningtable"]
    for changes in ({"steps": 7}, {"validate": None}, {"preset": "released-code"}):
        assert found(**changes) == []
    assert found(images_per_class=2) == ["diningtable"]
    path = partial.folder / "cat.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert found() == ["diningtable"]


def test_several_pictures_of_a_class(training, tmp_path):
    out = tmp_path / "bank.safetensors"
    done = optimise_tokens(
        request_for(
            training, out, classes=("cat",), images_per_class=2, steps=3, preset="released-code"
        )
    )
    said = json.loads(done.bank.provenance["class cat"])
    assert said["samples"] == ["cat-1", "cat-2"]
    assert done.bank.provenance["normalisation"] == "joint-min-max"
    unions = done.results["cat"].training[2].unions
    both = disc(40, 30).sum() + disc(65, 30).sum()
    assert (unions >= both).all()


def test_a_picture_of_another_model_fails_alone(training, tmp_path):
    folder = shutil.copytree(training.root, tmp_path / "samples")
    changed = SampleFolder.open(folder)
    changed.add_image(changed.samples[0], np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    out = tmp_path / "bank.safetensors"
    done = optimise_tokens(request_for(changed, out, steps=2))
    assert "drawn again with" in done.failures["cat"]
    assert list(done.results) == ["diningtable"]
    assert not out.exists()
    with pytest.raises(IncompleteError, match="1 of 2 classes failed"):
        done.check_complete()
    assert any("FAILED" in line for line in done.lines())
    # left out, the rest becomes a bank, and nothing is learnt twice
    optimise_tokens(request_for(changed, out, steps=2, classes=("dining table",)))
    assert TokenBank.load(out).class_names == ("diningtable",)


def spoil(kind, root):
    folder = SampleFolder.open(root)
    path = folder.annotation_path(folder.samples[0])
    if kind == "missing":
        for path in folder.annotation_path(folder.samples[0]).parent.glob("cat-*.png"):
            path.unlink()
    elif kind == "size":
        save_mask(disc(40, 30).T, path)
    elif kind == "empty":
        save_mask(np.zeros((HEIGHT, WIDTH), bool), path)
    elif kind == "full":
        save_mask(np.ones((HEIGHT, WIDTH), bool), path)
    elif kind == "grey":
        Image.fromarray(np.arange(64 * 128, dtype=np.uint16).reshape(64, 128)).save(path)
    elif kind == "no image":
        folder.image_path(folder.samples[0]).unlink()
    elif kind == "no list":
        (root / "samples.csv").unlink()
    elif kind == "moved model":
        settings = yaml.safe_load((root / "synthesis.yaml").read_text())
        settings["model"]["id"] = "gone/away/model"
        (root / "synthesis.yaml").write_text(yaml.safe_dump(settings))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no annotated sample of cat: paint one .*, or give --classes diningtable"),
        ("size", "must be 64x128 pixels"),
        ("empty", "it is empty"),
        ("full", "marks every pixel"),
        ("grey", "must be black but for one value"),
        ("no image", "image .*cat-1.png does not exist"),
        ("no list", "must be a folder of samples"),
        ("moved model", "neither built in nor a folder"),
    ],
)
def test_bad_samples_are_named_before_anything_is_loaded(
    training, tmp_path, monkeypatch, kind, reason
):
    root = shutil.copytree(training.root, tmp_path / "samples")
    spoil(kind, root)
    monkeypatch.setattr("ovamgen.tokens.learning.load_pipeline", None)
    with pytest.raises(ConfigError, match=reason):
        optimise_tokens(OptimiseRequest(samples=str(root), out=str(tmp_path / "b.safetensors")))
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]


def test_any_annotated_sample_of_a_class_will_do(training, tmp_path):
    root = shutil.copytree(training.root, tmp_path / "samples")
    folder = SampleFolder.open(root)
    for sample in (folder.samples[0], folder.samples[2]):
        folder.annotation_path(sample).unlink()
    _, tasks = prepare(request_for(folder, tmp_path / "bank.safetensors", classes=("cat",)))
    assert [example.sample.key for example in tasks[0].training] == ["cat-2"]
    with pytest.raises(ConfigError, match=r"annotated sample of diningtable: .* --classes cat"):
        prepare(request_for(folder, tmp_path / "bank.safetensors"))


def test_the_bank_names_the_best_threshold(finished, training, tmp_path):
    _, done = finished
    iou = np.mean([result.held_out[2].iou() for result in done.results.values()], axis=0)
    assert done.bank.tau == round(float(FINE_TAUS[iou.argmax()]), 2)
    assert done.lines()[-2].endswith(f"{done.bank.tau}: best mean IoU on the 3 held-out pictures")
    # without others, on those that it was learnt from; and as it is told
    results = {n: dataclasses.replace(r, held_out=()) for n, r in done.results.items()}
    config, tasks = prepare(request_for(training, tmp_path / "bank.safetensors"))
    made = make_bank(results, tasks, config, "paper")
    iou = np.mean([result.training[2].iou() for result in results.values()], axis=0)
    assert made.tau == round(float(FINE_TAUS[iou.argmax()]), 2)
    assert made.provenance["tau_from"].startswith("best mean IoU on the 2 pictures that it was")
    assert make_bank(results, tasks, config, "paper", 0.7).tau == 0.7


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tau": 1.5}, "--tau must name a threshold between 0 and 1, got 1.5"),
        ({"classes": ("unicorn",)}, "unicorn"),
        ({"classes": ("cat", "dog")}, "has no sample of dog"),
        ({"preset": "papers"}, "did you mean 'paper'"),
        ({"steps": 0}, "steps must be positive"),
        ({"learning_rate": -1.0}, "learning_rate must be positive"),
        ({"images_per_class": 0}, "--images-per-class must be positive"),
        ({"max_memory_gb": 0.0}, "--max-memory must be positive"),
        ({"model": "mini"}, "were drawn with .*tiny-sd, but --model is mini"),
        ({"out": "bank.npz"}, "must end in .safetensors"),
        ({"out": "missing/bank.safetensors"}, "does not exist: make it first"),
        ({"validate": "itself"}, "must be held out"),
        ({"max_memory_gb": 1e-6}, "queries of a class take .* fewer steps"),
    ],
)
def test_bad_requests_leave_nothing(training, tmp_path, monkeypatch, changes, reason):
    monkeypatch.chdir(tmp_path)
    if changes.get("validate"):
        changes = {"validate": str(training.root)}
    with pytest.raises(ConfigError, match=reason):
        optimise_tokens(request_for(training, changes.pop("out", "bank.safetensors"), **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_cross_attention_is_refused(training, tmp_path, monkeypatch):
    model = shutil.copytree(TINY_SD, tmp_path / "model")
    config = json.loads((model / "unet" / "config.json").read_text())
    config["down_block_types"] = ["DownBlock2D"] * 4
    config["up_block_types"] = ["UpBlock2D"] * 4
    (model / "unet" / "config.json").write_text(json.dumps(config))
    root = shutil.copytree(training.root, tmp_path / "samples")
    settings = yaml.safe_load((root / "synthesis.yaml").read_text())
    settings["model"]["id"] = str(model)
    (root / "synthesis.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setattr("ovamgen.tokens.learning.load_pipeline", None)
    out = tmp_path / "bank.safetensors"
    with pytest.raises(MethodError, match="tokens need a model with cross-attention"):
        optimise_tokens(OptimiseRequest(samples=str(root), out=str(out)))
    assert not out.exists()


@pytest.mark.parametrize(("height", "width", "steps"), [(64, 128, 1), (72, 136, 2)])
def test_memory_is_known_before_drawing(height, width, steps):
    """Odd sizes of latents round up at every halving."""
    loaded, sink = tiny_sd(), StoredQueries()
    settings = SynthesisConfig(steps=steps, height=height, width=width)
    synthesiser = Synthesiser(loaded, settings)
    said = query_memory(loaded, settings, synthesiser.latent_shape[1:])
    synthesiser.draw(["a cat"], [0], listeners=[(sink, "unconditional")])
    assert said.image_bytes == sink.nbytes
    assert said.calls == len(sink.calls) / len(cross_attention_layers(loaded.pipe.unet))
    assert said.needed(2) == 2 * sink.nbytes + said.extra_bytes
