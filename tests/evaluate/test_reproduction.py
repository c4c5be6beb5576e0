"""The supplementary, step by step on two classes of the embedded model: pictures to the page."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import yaml

from ovamgen.config import read_config_file
from ovamgen.errors import ConfigError, IncompleteError
from ovamgen.evaluate.paper import paper_results
from ovamgen.evaluate.reproduction import cost, steps
from ovamgen.evaluate.reproduction.cost import Estimate, StepCost, estimate
from ovamgen.evaluate.reproduction.settings import build_reproduction_settings
from ovamgen.evaluate.reproduction.steps import Places, reproduce
from ovamgen.pictures.sample_folder import SampleFolder, save_mask
from tests.conftest import REPOSITORY
from tests.evaluate.conftest import disc
from tests.pictures.voc_folders import write_voc

CONFIGS = REPOSITORY / "jobs" / "configs"
ANNOTATED = REPOSITORY / "recipes" / "mini" / "annotated"
TWO = ("aeroplane", "bicycle")


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Two of the recipe's drawings with their masks."""
    root = tmp_path_factory.mktemp("annotated") / "samples"
    shutil.copytree(ANNOTATED, root)
    head, *rows = (root / "samples.csv").read_text().splitlines()
    (root / "samples.csv").write_text("\n".join([head, *rows[: len(TWO)]]) + "\n")
    for path in [*root.glob("images/*"), *root.glob("annotations/*")]:
        if path.stem.split("-")[0] not in TWO:
            path.unlink()
    return root


def asked(annotated, **changes):
    """Settings of the least that there is to do; four pictures to score segmentors on."""
    voc = annotated.parent / "voc"
    if not voc.exists():
        write_voc(voc, {"val": 4})
    # the second is tuned on and the first one scored
    pictures = {"samples": "mini", "limit": 2, "tune_fraction": 0.51, "presets": ["ovam-voc-sim"]}
    return {
        "generate": {
            "model": {"id": "mini"},
            "synthesis": {"steps": 2},
            "attribution": {"missing": "words"},
        },
        "tokens": {"samples": str(annotated), "steps": 2},
        "thresholds": "tuned",
        "scorings": [
            {
                **pictures, "name": "named", "paper": "VOC-sim",
                "caption": "A photograph of {classes}", "text": "{prompt}",
            },
            {**pictures, "name": "captions", "paper": "COCO-cap"},
        ],
        "bootstrap_draws": 20,
        "drawing_steps": 2,
        "table_s1": {
            "presets": ["ovam-voc-sim"], "images": 2,
            "plan": {"captions": "demo", "shard_size": 2},
            "train": {"size": "small", "steps": 2, "batch_size": 2, "crop_px": 32},
            "voc": str(voc),
        },
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def made(annotated, tmp_path_factory):
    settings = build_reproduction_settings(asked(annotated))
    said = []
    places = reproduce(settings, tmp_path_factory.mktemp("reproduced") / "out", said.append)
    return settings, places, said


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.urls, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.slow
def test_the_page_has_our_numbers_beside_the_papers(made):
    settings, places, _ = made
    page = _Page()
    html = places.page.read_text("utf-8")
    page.feed(html)
    text = "|".join(part.strip() for part in page.text if part.strip())
    for scoring in settings.scorings:
        rows = json.loads((places.scores(scoring.name) / "comparison.json").read_text())["rows"]
        for row in rows:
            assert f"{100 * row['tuned']['miou']['value']:.1f}" in text
    table = json.loads((places.table / "table.json").read_text())["rows"]
    assert [row["name"] for row in table] == ["ovam-voc-sim-words", "ovam-voc-sim-tokens"]
    assert f"{100 * table[1]['miou_21_with_background']:.1f}" in text
    # the paper's: words, tokens and gain of OVAM on VOC-sim, and a row of each of its tables
    assert "70.4|82.5|+12.1" in text
    paper = paper_results()
    s1, s2 = paper.s1("ovam", "tokens"), paper.s2("ovam", "not included")
    for row in (s1, s2):
        assert "|".join(f"{value:.1f}" for value in (*row.iou, row.miou)) in text
    # by itself, and nothing in it runs
    assert all(url.startswith(("#", "data:")) for url in page.urls)
    assert "script" not in page.tags
    assert page.tags.count("img") == 1 + 2
    assert "Figure S1" in text
    assert re.search(r"Figure S3: heatmaps, ovam-voc-sim\|", text)
    assert "default-src 'none'" in html


@pytest.mark.slow
def test_what_is_done_is_not_done_again(made, monkeypatch):
    settings, places, said = made
    assert said[0] == "step 1 of 5: pictures"
    for name in ("optimise_tokens", "compare_data_set", "draw_figures"):
        monkeypatch.setattr(steps, name, None)
    before = places.page.read_bytes()
    places.page.unlink()
    assert reproduce(settings, places.root, said.append) == places
    assert places.page.read_bytes() == before
    assert estimate(settings, places.root).lines() == [
        "estimate: every drawing and training is there already"
    ]
    other = settings.model_copy(update={"bootstrap_draws": 30})
    with pytest.raises(ConfigError, match="holds a reproduction with other settings"):
        reproduce(other, places.root, said.append)


def test_pictures_wait_for_their_annotations(tmp_path, annotated, monkeypatch):
    drawn = {"draw": {"per_class": 1, "seed": 1}, "images_per_class": 3, "steps": 2}
    given = asked(annotated, tokens=drawn)
    given["generate"]["synthesis"]["steps"] = 1
    settings = build_reproduction_settings(given)
    said = []
    with pytest.raises(IncompleteError, match="20 pictures wait for an annotation"):
        reproduce(settings, tmp_path / "out", said.append)
    folder = SampleFolder.open(tmp_path / "out" / "samples" / "tokens")
    assert said[-1] == f"20 pictures: ovamgen annotate --samples {folder.root}"
    for sample in folder.samples:
        save_mask(disc(128, 128, 60, 60, 40), folder.annotation_path(sample))
    monkeypatch.setattr(steps, "optimise_tokens", _stop)
    with pytest.raises(KeyboardInterrupt):
        reproduce(settings, tmp_path / "out", said.append)
    assert said[-1] == "step 2 of 5: tokens of every class"


def _stop(request):
    assert request.samples.endswith("samples/tokens")
    assert request.images_per_class == 3
    raise KeyboardInterrupt


def test_the_estimate_counts_what_is_to_be_done(tmp_path, annotated, monkeypatch):
    settings = build_reproduction_settings(asked(annotated))
    monkeypatch.setattr(cost, "_token_step_seconds", lambda *_: 0.5)
    monkeypatch.setattr(cost, "_training_step_seconds", lambda *_: 3.0)
    monkeypatch.setattr(cost._Pace, "seconds", lambda _: 1.0)
    parts = {part.name: part for part in estimate(settings, tmp_path / "out").parts}
    # two steps are three calls with PNDM; from the middle of them there is one left
    assert parts["tokens"].seconds == 40 * 3 + 20 * 2 * 0.5
    three = settings.model_copy(
        update={"tokens": settings.tokens.model_copy(update={"images_per_class": 3})}
    )
    (tokens,) = (p for p in estimate(three, tmp_path / "three").parts if p.name == "tokens")
    assert tokens.seconds == 3 * parts["tokens"].seconds
    assert parts["masks: named"].seconds == 2
    assert parts["Table S1: pictures"].seconds == 2 * 2 * 3
    assert parts["Table S1: trainings"].seconds == 2 * 2 * 3.0
    told = Estimate(
        device="cuda", parts=(StepCost(name="a", count="1 drawing", seconds=7200.0),)
    ).lines()
    assert told[0].startswith("estimate: 2.00 GPU hours")
    assert told[1].split()[-2:] == ["2.00", "h"]


def test_the_configurations_that_ship():
    mini = build_reproduction_settings(read_config_file(CONFIGS / "reproduce-mini.yaml"))
    quick = build_reproduction_settings(
        read_config_file(CONFIGS / "reproduce-mini.yaml"), quick=True
    )
    assert (mini.tokens.steps, mini.tokens.images_per_class) == (250, 3)
    assert quick.tokens.steps < 100
    assert {scoring.limit for scoring in quick.scorings} == {20}
    rows = mini.table("bank.safetensors", {"ovam-voc-sim-tokens": 0.5}).rows
    assert len(rows) == 8
    assert rows[-1].set == {"masks": {"tau": 0.5}}
    full = build_reproduction_settings(read_config_file(CONFIGS / "reproduce-sd15.yaml"))
    assert full.thresholds == "preset"
    by_name = {row.name: row for row in full.table("bank.safetensors", {}).rows}
    assert by_name["grounded-words"].set == {"attribution": {"head": "grounded.safetensors"}}
    assert [scoring.paper for scoring in full.scorings] == ["VOC-sim", "COCO-cap"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": {"steps": 2}}, "give one"),
        ({"tokens": {"draw": {"seed": 1}}}, "draw needs per_class, or captions"),
        ({"scoring": []}, "did you mean 'scorings'"),
        ({"thresholds": "best"}, "thresholds"),
        ({"heads": {"groundet": "x"}}, "groundet"),
        ({"scorings": []}, "scorings"),
        (
            {"table_s1": {"presets": ["daam"], "plan": {}, "voc": "mini"}},
            "takes tuned thresholds of the scorings, none has daam",
        ),
    ],
)
def test_settings_that_cannot_be_used(annotated, change, message):
    with pytest.raises(ConfigError) as error:
        build_reproduction_settings(asked(annotated, **change))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_wrong_is_found_before_anything_is_made(annotated, tmp_path):
    for change, message in (
        ({"generate": {"model": {"id": "mini"}, "masks": {"taus": 1}}}, "masks.taus"),
        ({"generate": {"model": {"id": "mini"}, "classes": "cat,dog"}}, "is of VOC's classes"),
        ({"table_s1": asked(annotated)["table_s1"] | {"train": {"steps": 0}}}, "steps"),
    ):
        settings = build_reproduction_settings(asked(annotated, **change))
        with pytest.raises(ConfigError, match=message):
            reproduce(settings, tmp_path / "out", lambda line: None)
        assert not (tmp_path / "out").exists()


def test_the_job_says_what_is_wrong_in_one_line(tmp_path):
    import subprocess
    import sys

    config = tmp_path / "bad.yaml"
    config.write_text(yaml.safe_dump({"generate": {}, "scorings": []}))
    done = subprocess.run(
        [sys.executable, "jobs/reproduce.py", "--config", config, "--out", tmp_path / "out"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "reproduction setting" in done.stderr
    assert not (tmp_path / "out").exists()
    assert Places(root=tmp_path).page.name == "index.html"
