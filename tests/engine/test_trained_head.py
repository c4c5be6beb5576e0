"""The methods of trained heads on the embedded model: maps, masks, corpora, and what is refused."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ovamgen.attribution.heads.datasetdm import DatasetDmShape
from ovamgen.attribution.heads.grounded import GroundedShape
from ovamgen.attribution.heads.head_file import Head, build_head, load_head
from ovamgen.attribution.heads.running import run_head
from ovamgen.attribution.heads.text import grounded_words
from ovamgen.attribution.interface import HeatmapMethod, HeatmapSink
from ovamgen.attribution.method import build_method
from ovamgen.attribution.targets import phrase_targets
from ovamgen.attribution.trained_head import HeadUse, open_head
from ovamgen.classes.loading import built_in
from ovamgen.config import build_config
from ovamgen.console.wording import readable_bytes
from ovamgen.corpus.dataset import read_samples
from ovamgen.diffusion.features import FeatureSink
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.engine import Engine
from ovamgen.engine.head_checks import head_in_words, recorded_bytes
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import ConfigError, MethodError
from ovamgen.generation import generate
from ovamgen.masks.binarise import make_label_map
from ovamgen.mini import HEADS
from tests.command_line import ovamgen
from tests.engine.test_engine import specs

KINDS = ["grounded", "datasetdm"]
STEPS = 4


def config(method, *layers, **sections):
    base = {
        "model": {"id": "mini"},
        "synthesis": {"steps": STEPS, "safety": "off"},
        "attribution": {"method": method},
        "runtime": {"cpu_threads": 1, "runner": "local"},
    }
    for name, values in sections.items():
        base[name] = base.get(name, {}) | values
    return build_config(base, *layers)


@pytest.fixture(scope="module")
def engines():
    return {kind: Engine.load(config(kind)) for kind in KINDS}


PROMPTS = [f"a photograph of a {name}" for name in ("cat", "dog", "bus", "boat", "cow", "sheep")]


def eight():
    return [specs(seed, prompt=PROMPTS[seed % len(PROMPTS)])[0] for seed in range(8)]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_1_3_and_8_give_the_same_maps(kind, engines):
    engine, asked = engines[kind], eight()
    whole = engine.synthesise(asked).heatmaps.astype(np.float32)
    assert whole.shape == (8, 20, 128, 128)
    assert whole.min() >= 0
    assert whole.max() <= 1
    for size in (1, 3):
        parts = [engine.synthesise(asked[at : at + size]).heatmaps for at in range(0, 8, size)]
        found = np.concatenate(parts).astype(np.float32)
        # the UNet's own last bits depend on the batch; half a level of 8 bits is what is stored
        assert np.abs(found - whole).max() < 2e-3
        assert np.mean((found > 0.5) != (whole > 0.5)) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_does_not_depend_on_what_was_drawn_before(kind, engines):
    engine, asked = engines[kind], eight()
    first = engine.synthesise(asked[:1])
    engine.synthesise(asked[1:4])
    again = engine.synthesise(asked[:1])
    assert np.array_equal(first.heatmaps, again.heatmaps)
    assert np.array_equal(first.images, again.images)


def test_images_are_those_of_a_method_without_a_head(engines):
    plain = Engine.load(config("ovam"))
    assert np.array_equal(
        plain.synthesise(eight()[:2]).images, engines["datasetdm"].synthesise(eight()[:2]).images
    )


class Kept:
    """Keeps the features beside the sink under test."""

    before_upsampling = with_attention = False

    def wants_features(self, timestep):
        return timestep <= 1

    def take_features(self, features, attention):
        self.features = features

    def update(self, layer, queries, size):
        raise AssertionError("no queries are wanted")


def test_the_preset_makes_the_published_decision():
    loaded = load_pipeline(config("grounded").model)
    asked = config("grounded", attribution={"tokens": "words"})
    model, kept = PipelineAttention(loaded), Kept()
    assert isinstance(kept, FeatureSink)
    targets = phrase_targets({"cat": "cat", "diningtable": "dining table"}, model.encode)
    use = open_head(asked)
    method = build_method("grounded", model, targets, asked.masks, head=use)
    assert isinstance(method, HeatmapMethod)
    sink = method.open([PROMPTS[0]])
    assert isinstance(sink, HeatmapSink)
    synthesiser = Synthesiser(loaded, asked.synthesis)
    branch = "unconditional"
    drawn = synthesiser.draw([PROMPTS[0]], [3], listeners=[(sink, branch), (kept, branch)])
    maps = sink.class_maps()[0]
    for index, phrase in enumerate(("cat", "dining table")):
        text = grounded_words(model, PROMPTS[0], phrase)[None]
        logits = run_head(use.head.network, "official", kept.features, text)[0]
        assert torch.allclose(maps[index], logits.sigmoid(), atol=1e-5)
        label = make_label_map(maps[index : index + 1].numpy(), [8], drawn.images[0], asked.masks)
        sure = logits.abs() > 1e-4
        assert torch.equal((torch.from_numpy(label.labels) == 8)[sure], (logits > 0)[sure])


def test_features_take_the_memory_that_is_said_before_the_run():
    asked = config("grounded", plan={"batch_size": 3})
    use, loaded, kept = open_head(asked), load_pipeline(asked.model), Kept()
    synthesiser = Synthesiser(loaded, asked.synthesis)
    synthesiser.draw(PROMPTS[:3], [0, 1, 2], listeners=[(kept, "unconditional")])
    cells = 128 // loaded.info.vae_scale_factor
    stated = recorded_bytes(asked, use, (cells, cells))
    held = [item.untyped_storage().nbytes() for level in kept.features for item in level]
    assert sum(held) == stated
    assert f"takes {readable_bytes(stated)} for a batch of 3" in head_in_words(
        asked, use, (cells, cells)
    )


def test_modes_and_tokens_are_told_apart(engines):
    official = engines["datasetdm"].synthesise(eight()[:1]).heatmaps
    for asked in (
        {"head_mode": "eval"},
        {"head_tokens": "pair_mean"},
        {"tokens": "words"},
    ):
        other = Engine.load(config("datasetdm", attribution=asked)).synthesise(eight()[:1])
        assert not np.array_equal(other.heatmaps, official), asked


# ---- corpora


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_with_the_embedded_models_own_head(kind, tmp_path, capsys):
    captions = tmp_path / "captions.txt"
    captions.write_text("a cat on the grass\na photograph of a bus\na dog and a boat\n")
    out = str(tmp_path / "corpus")
    asked = config(
        kind,
        {"plan": {"captions": str(captions)}, "shards": {"heatmaps": True}, "out": out},
    )
    outcome = generate(asked)
    assert (outcome.summary.samples, outcome.summary.failed) == (3, 0)
    assert "recording its features takes" in capsys.readouterr().err
    found = list(read_samples(out))
    assert {sample.metadata["method"] for sample in found} == {kind}
    written = yaml.safe_load((tmp_path / "corpus/run.yaml").read_text())
    assert written["config"]["attribution"]["head"] == "own"
    assert set(written["inputs"]) == {"captions", "tokens", "head"}
    again = ovamgen("reannotate", out, "--tau", 0.3, "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    wider = {sample.key: sample for sample in read_samples(str(tmp_path / "again"))}
    for sample in found:
        assert np.mean(wider[sample.key].labels > 0) >= np.mean(sample.labels > 0)
    assert ovamgen("report", out, "--out", tmp_path / "report.html").returncode == 0


def test_one_image_by_command(tmp_path):
    out, picture = tmp_path / "a.npz", tmp_path / "a.png"
    done = ovamgen(
        "attribute", "--model", "mini", "--method", "datasetdm", "--steps", STEPS, "--tokens",
        "own", "--text", "cat", "--prompt", "a cat", "--out", out, "--overlay", picture,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "probabilities of pixels by the datasetdm head" in done.stdout
    with np.load(out) as arrays:
        assert arrays["text_0"].shape == (1, 128, 128)
        assert arrays["bank"].shape == (20, 1, 128, 128)
        assert list(arrays["bank_classes"]) == [entry.name for entry in built_in("voc").classes]
        assert 0 <= arrays["bank"].min() <= arrays["bank"].max() <= 1
    with Image.open(picture) as shown:
        assert shown.width > 3 * 128


# ---- what is refused


def refused(method, head, **sections):
    asked = config(method, attribution={"method": method, "head": str(head)}, **sections)
    with pytest.raises(ConfigError) as error:
        Engine.load(asked)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_head_of_another_method_or_unet(tmp_path):
    other = refused("grounded", HEADS["datasetdm"])
    assert "is a datasetdm head, one of grounded is wanted" in other
    shapes = {
        "grounded": GroundedShape(channels=(8, 8, 8), widths=(4, 4, 4), text_width=128, width=16),
        "datasetdm": DatasetDmShape(channels=(8, 8, 8), text_width=128, width=16, layers=2),
    }
    for kind, shape in shapes.items():
        file = tmp_path / f"{kind}.safetensors"
        Head(kind=kind, network=build_head(shape, 0)).save(file)
        message = refused(kind, file)
        assert "features of 8, 8, 8 channels" in message
        assert "mini has" in message
    assert "does not exist" in refused("grounded", tmp_path / "no.safetensors")


def test_a_datasetdm_head_of_other_classes(tmp_path):
    own = load_head(HEADS["datasetdm"])
    file = tmp_path / "less.safetensors"
    less = Head(
        kind="datasetdm", network=own.network, classes=own.classes[2:], provenance=own.provenance
    )
    less.save(file)
    assert "it lacks aeroplane, bicycle: use" in refused("datasetdm", file)
    # released weights were trained with one text for all classes
    told = own.provenance | {"settings": json.dumps({"asked_for": "aeroplane"})}
    HeadUse(
        head=Head(kind="datasetdm", network=own.network, classes=("cat",), provenance=told)
    ).check_classes(("dog",))
    grounded = load_head(HEADS["grounded"])
    few = Head(
        kind="grounded", network=grounded.network, classes=("cat",), provenance=own.provenance
    )
    HeadUse(head=few).check_classes(("dog",))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_scheduler_that_does_not_reach_the_call():
    asked = {"synthesis": {"scheduler": "DPMSolverMultistep", "steps": 4}}
    message = refused("grounded", "own", **asked)
    assert "DPMSolverMultistep with 4 steps ends at" in message
    assert "use PNDM or DDIM" in message
    assert Engine.load(config("grounded", synthesis={"scheduler": "DDIM"})) is not None


def test_a_method_without_its_head_or_its_call():
    model = PipelineAttention(load_pipeline(config("grounded").model))
    targets = phrase_targets({"cat": "cat"}, model.encode)
    with pytest.raises(MethodError, match="needs a head, got none"):
        build_method("grounded", model, targets)
    with pytest.raises(MethodError, match="at least one class"):
        build_method("grounded", model, (), head=open_head(config("grounded")))
    sink = build_method("grounded", model, targets, head=open_head(config("grounded"))).open(["a"])
    with pytest.raises(MethodError, match="the drawing made none"):
        sink.class_maps()
