"""Both kinds of data set through the real pipeline, against masks and counts made by hand."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ovamgen.attribution.ovam import TextMaps
from ovamgen.cli import app
from ovamgen.console.progress import Progress
from ovamgen.diffusion.recreate import Recreator
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import ConfigError, MethodError
from ovamgen.evaluate import recording
from ovamgen.evaluate.judging import judge, refined_mask
from ovamgen.evaluate.masks import evaluate_masks
from ovamgen.evaluate.recording import record
from ovamgen.evaluate.setups import make_setup
from ovamgen.masks.iou import TAUS
from ovamgen.pictures.picture_set import open_pictures
from tests.evaluate.conftest import tiny
from tests.golden.reference import TINY_SD, tiny_sd

ATTENDED = {"self_attention": "received", "normalised_at": "map"}


@pytest.fixture(autouse=True)
def one_pipeline(monkeypatch):
    """The golden pipeline, loaded once for all tests."""
    monkeypatch.setattr(recording, "load_pipeline", lambda _: tiny_sd())


class Told(Progress):
    """What an evaluation says of its drawings; the user may stop it after one."""

    def __init__(self, stop_at=None):
        super().__init__("drawings")
        self.started, self.drawings, self.stop_at = [], 0, stop_at

    def start(self, total, done=0):
        self.started.append((total, done))

    def add(self, count=1):
        self.drawings += count
        if self.drawings == self.stop_at:
            raise KeyboardInterrupt


def words(preset="ovam-voc-sim", name="ovam-words", text="{class}", **sections):
    sections["masks"] = {"preset": preset} | sections.get("masks", {})
    return make_setup(tiny(**{"attribution": {"tokens": "words"}} | sections), name=name, text=text)


def bilinear(values, height, width):
    import torch

    tensor = torch.from_numpy(np.array(values, np.float32))[None, None]
    return torch.nn.functional.interpolate(tensor, size=(height, width), mode="bilinear")[0, 0]


def test_maps_of_samples_are_those_of_their_own_drawing(sample_folder, tmp_path):
    """Word map, divided by its largest value at the image's size: by torch, without our engine."""
    pictures = open_pictures(sample_folder)
    setup = words("daam-ovam")
    recordings = record(pictures, [setup], tmp_path, strength=0.5)
    cat = pictures.pictures[0]
    recorded = recordings.maps(setup, cat)
    assert recorded.difference == 0
    assert recorded.problems == {}

    loaded = tiny_sd()
    text = PipelineAttention(loaded).encode("cat")
    sink = TextMaps(PipelineAttention(loaded).layers, [text.rows])
    synthesiser = Synthesiser(loaded, tiny().synthesis)
    drawn = synthesiser.draw([cat.prompt], [cat.seed], listeners=[(sink, "unconditional")])
    assert np.array_equal(drawn.images[0], pictures.image(cat))
    raw = sink.result()[0][0, text.last_subtoken()].numpy()
    scores = bilinear(raw, 64, 64).numpy()
    scores /= scores.max()

    judged = judge(pictures, setup, recordings)
    assert judged.refined is None
    truth = pictures.truth(cat) == 8
    row = judged.plain.keys.index(cat.key)
    for step, tau in enumerate(TAUS):
        mask = scores > tau
        expected = (mask & truth).sum(), (mask | truth).sum()
        found = judged.intersections[row, step], judged.unions[row, step]
        # a pixel on a threshold may fall on either side by rounding
        assert np.abs(np.subtract(found, expected)).max() <= 2
    assert judged.plain.unions[row] == judged.unions[row, TAUS.index(0.4)]


def test_maps_of_real_pictures_are_those_of_image_to_image(voc_folder, tmp_path):
    pictures = open_pictures(voc_folder, limit=1)
    setup = words("daam-ovam")
    recordings = record(pictures, [setup], tmp_path, strength=0.5)
    (cat,) = pictures.pictures

    loaded = tiny_sd()
    text = PipelineAttention(loaded).encode("cat")
    sink = TextMaps(PipelineAttention(loaded).layers, [text.rows])
    drawn = Recreator(loaded, setup.config.synthesis, 0.5).draw(
        pictures.image(cat), cat.prompt, cat.seed, [(sink, "unconditional")]
    )
    raw = sink.result()[0][0, text.last_subtoken()].numpy()
    recorded = recordings.maps(setup, cat)
    ratio = recorded.maps[0] / recorded.maps[0].max()
    np.testing.assert_allclose(ratio, raw / raw.max(), atol=1e-6)
    assert recorded.difference == drawn.difference > 0


def test_setups_that_share_a_drawing_hear_what_they_hear_alone(voc_folder, tmp_path):
    pictures = open_pictures(voc_folder, limit=1)
    setups = [
        words("ovam-voc-sim", "a"),
        words("daam", "b"),
        words("attn2mask-supplementary", "c", synthesis={"steps": 2}),
        words("ovam-voc-sim", "d", masks=ATTENDED),
        words("daam-ovam", "e"),
        words("ovam-voc-sim", "f", attribution={"tokens": "untrained"}),
    ]
    counting = Told()
    together = record(pictures, setups, tmp_path / "together", strength=0.5, counting=counting)
    assert counting.drawings == 1
    for setup in setups:
        alone = record(pictures, [setup], tmp_path / setup.name, strength=0.5)
        for picture in pictures.pictures:
            a, b = together.maps(setup, picture), alone.maps(setup, picture)
            assert np.array_equal(a.maps, b.maps)
            assert a.maps.max() > 0
    maps = {s.name: together.maps(s, pictures.pictures[0]).maps for s in setups}
    assert not np.array_equal(maps["a"], maps["b"])
    assert not np.array_equal(maps["a"], maps["d"])


def test_an_interrupted_evaluation_goes_on(voc_folder, tmp_path):
    pictures = open_pictures(voc_folder, limit=2)
    with pytest.raises(KeyboardInterrupt):
        record(pictures, [words()], tmp_path, strength=0.5, counting=Told(stop_at=1))
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["val_000.npz"]
    counting = Told()
    recordings = record(pictures, [words()], tmp_path, strength=0.5, counting=counting)
    assert counting.started == [(2, 1)]
    whole = record(pictures, [words()], tmp_path / "whole", strength=0.5)
    for picture in pictures.pictures:
        a, b = recordings.maps(words(), picture), whole.maps(words(), picture)
        assert np.array_equal(a.maps, b.maps)


def test_other_settings_are_recorded_anew_and_damaged_files_too(voc_folder, tmp_path):
    pictures = open_pictures(voc_folder, limit=1)
    told = []

    def again(setup, strength):
        counting = Told()
        record(pictures, [setup], tmp_path, strength=strength, counting=counting)
        told.append(counting.started[0][1])

    again(words(), 0.5)
    again(words(masks={"tau": 0.7}), 0.5)  # thresholds come after the maps
    again(words(), 1.0)
    again(words(), 1.0)
    again(words(text="a {class}"), 1.0)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    again(words(text="a {class}"), 1.0)
    assert told == [0, 1, 0, 1, 0, 0]


def test_words_that_the_prompt_does_not_name_are_left_out(voc_folder, tmp_path):
    """val_005 is 'an animal in the snow': DAAM has no map of its dog, OVAM has one."""
    pictures = open_pictures(voc_folder)
    found = evaluate_masks(pictures, words("daam", "daam-words"), tmp_path / "a", strength=0.5)
    (left,) = found.judged.left_out
    assert (left.key, left.class_name) == ("val_005", "dog")
    assert found.tables["not included"].miou is None
    assert found.tables["all"].pictures == 5
    assert "1 of 6 picture and class pairs have no map" in (tmp_path / "a/scores.md").read_text()
    assert found.data["left_out"][0]["key"] == "val_005"
    everything = evaluate_masks(pictures, words(), tmp_path / "b", strength=0.5)
    assert everything.tables["not included"].pictures == 1
    assert everything.tables["all"].pictures == 6


def test_no_map_at_all_is_an_error(tmp_path, voc_folder):
    copied = tmp_path / "copy"
    shutil.copytree(voc_folder, copied)
    (copied / "ImageSets" / "Segmentation" / "val.txt").write_text("val_005\n")
    with pytest.raises(MethodError, match=r"daam-words has no map of any picture: .*not in the"):
        evaluate_masks(
            open_pictures(copied), words("daam", "daam-words"), tmp_path / "out", strength=0.5
        )
    assert not (tmp_path / "out" / "scores.json").exists()


def test_what_is_written(voc_folder, tmp_path):
    pictures = open_pictures(voc_folder)
    found = evaluate_masks(pictures, words("paper", "ovam-words"), tmp_path, strength=0.5, draws=50)
    assert found.judged.refined is not None
    data = json.loads((tmp_path / "scores.json").read_text())
    assert data == found.data
    assert data["tau"] == 0.4
    assert data["scores"]["all"]["pictures"] == 6
    assert len(data["scores"]["all"]["absent_classes"]) == 18
    assert [step["tau"] for step in data["sweep"]] == list(TAUS)
    at_tau = next(step for step in data["sweep"] if step["tau"] == 0.4)
    assert at_tau["miou"] == data["without_crf"]["miou"]

    with (tmp_path / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == [f"val_{n:03d}" for n in range(6)]
    hits = {name: [0, 0] for name in ("cat", "dog")}
    for row in rows:
        hits[row["class_name"]][0] += int(row["intersection"])
        hits[row["class_name"]][1] += int(row["union"])
    by_hand = {name: inter / union for name, (inter, union) in hits.items()}
    per_class = data["scores"]["all"]["per_class"]
    for name, value in by_hand.items():
        assert per_class[name]["value"] == pytest.approx(value, abs=1e-6)
    mean = sum(by_hand.values()) / 2
    assert data["scores"]["all"]["miou"]["value"] == pytest.approx(mean, abs=1e-6)

    page = (tmp_path / "scores.md").read_text()
    assert f"| {100 * mean:.1f} (" in page
    for name in ("not included", "included", "all"):
        assert f"\n| {name} |" in page
    assert "the 2 classes that occur" in page
    with Image.open(tmp_path / "miou_over_tau.png") as picture:
        assert picture.width > 600
    assert (tmp_path / "miou_over_tau.pdf").read_bytes().startswith(b"%PDF")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    evaluate_masks(pictures, words("paper", "ovam-words"), tmp_path, strength=0.5, draws=50)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_255_and_two_classes_in_one_picture_by_hand():
    """Ten pixels: the upper row scores 1, the lower one 0; each class is judged by itself."""
    maps = np.array([[[1.0, 1, 1, 1, 1], [0, 0, 0, 0, 0]]], np.float32)
    image = np.zeros((2, 5, 3), np.uint8)
    mask = refined_mask(maps, 8, image, tiny().masks, 0.5, crf=False)
    assert mask.tolist() == [[True] * 5, [False] * 5]


def test_crf_on_and_off_and_over_all_thresholds(voc_folder, tmp_path):
    pictures = open_pictures(voc_folder, limit=1)
    setup = words("paper")
    recordings = record(pictures, [setup], tmp_path, strength=0.5)
    off = judge(pictures, setup, recordings, crf=False)
    assert off.refined is None
    on = judge(pictures, setup, recordings, crf_sweep=True)
    step = TAUS.index(0.4)
    assert on.refined_sweep[0][0, step] == on.refined.intersections[0]
    assert on.refined_sweep[1][0, step] == on.refined.unions[0]
    assert np.array_equal(on.unions, off.unions)
    other = judge(pictures, setup, recordings, tau=0.9)
    assert (other.tau, on.tau) == (0.9, 0.4)
    assert other.plain.unions[0] == on.unions[0, TAUS.index(0.9)]


def test_redrawn_samples_that_differ_are_told(sample_folder, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(sample_folder, copied)
    path = copied / "images" / "cat-000.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[:8] = 255 - pixels[:8]
    Image.fromarray(pixels).save(path)
    found = evaluate_masks(open_pictures(copied), words(), tmp_path / "out", strength=0.5)
    lines = "\n".join(found.lines())
    assert "1 of 2 samples were not redrawn bit for bit, cat-000 differs most" in lines
    assert found.data["drawing"]["identical"] == 1
    assert found.data["strength"] is None


def test_the_command(sample_folder, tmp_path):
    command = ["evaluate", "masks", "--dataset", str(sample_folder), "--out", str(tmp_path / "o")]
    options = ["--device", "cpu", "--set", "runtime.cpu_threads=1", "--preset", "ovam-voc-sim"]
    result = CliRunner().invoke(app, [*command, *options, "--json", "--draws", "20"])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["model"] == str(TINY_SD)
    assert data["setup"]["name"] == "ovam-voc-sim-words"
    assert data["drawing"]["identical"] == 2
    assert "1 of 3 samples have no annotation" in data["notes"][0]
    result = CliRunner().invoke(app, [*command, *options, "--draws", "20"])
    assert "mIoU" in result.stdout
    assert "without CRF" in result.stdout


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["--preset", "ovam-voc"], ConfigError, "unknown preset 'ovam-voc'"),
        (["--method", "oval"], MethodError, "did you mean 'ovam'"),
        (["--model", "mini"], ConfigError, "other settings than are asked for"),
        (["--steps", "9"], ConfigError, r"synthesis.steps: 2 -> 9"),
        (["--tokens", "nothing.safetensors"], ConfigError, "does not exist"),
        (["--split", "val"], ConfigError, "--split is for folders"),
        (["--text", "cat"], ConfigError, "--text must hold"),
    ],
)
def test_bad_input_before_anything_is_written(sample_folder, tmp_path, options, kind, message):
    out = tmp_path / "o"
    command = ["evaluate", "masks", "--dataset", str(sample_folder), "--out", str(out)]
    result = CliRunner().invoke(app, [*command, "--device", "cpu", *options])
    assert isinstance(result.exception, kind), result.output
    assert re.search(message, str(result.exception))
    assert not out.exists()


def test_a_strength_that_leaves_nothing_to_draw(voc_folder, tmp_path):
    with pytest.raises(ConfigError, match="leaves no step of 2"):
        evaluate_masks(open_pictures(voc_folder), words(), tmp_path / "o", strength=0.3)
    assert not (tmp_path / "o").exists()
