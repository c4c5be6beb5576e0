import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ovamgen.classes.class_set import ClassSet
from ovamgen.cli import app
from ovamgen.errors import ConfigError
from ovamgen.evaluate import comparison, recording
from ovamgen.evaluate.compare import write_comparison
from ovamgen.evaluate.comparison import compare, figure_pictures, split_by_hash, split_by_name
from ovamgen.evaluate.comparison_report import comparison_data, comparison_markdown, summary_lines
from ovamgen.evaluate.panel_grid import cut_out
from ovamgen.evaluate.scoring import iou_table
from ovamgen.evaluate.setups import make_setup
from ovamgen.masks.iou import TAUS
from ovamgen.pictures.picture_set import open_pictures
from tests.evaluate.conftest import labels_of, tiny, write_voc
from tests.golden.reference import TINY_SD, tiny_sd


@pytest.fixture(scope="module")
def two_splits(tmp_path_factory):
    """Four pictures to report on and three others to tune on."""
    root = tmp_path_factory.mktemp("voc") / "toy"
    for split, count in (("train", 3), ("val", 4)):
        pictures = []
        for number in range(count):
            name = ("cat", "dog")[number % 2]
            labels = labels_of((name, 50 + 5 * number, 40 if split == "val" else 80, 30))
            pictures.append((f"{split}_{number}", f"a photo of a {name}", [name], labels))
        write_voc(root, pictures, split, captions=False)
    return root


@pytest.fixture(scope="module")
def found(two_splits, tmp_path_factory):
    """A comparison of two presets, with words and untrained pairs, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "load_pipeline", lambda _: tiny_sd())
        out = tmp_path_factory.mktemp("compared")
        pictures = open_pictures(two_splits)
        parts = split_by_name(pictures, open_pictures(two_splits, split="train"))
        setups = [
            make_setup(
                tiny(attribution={"tokens": tokens}, masks={"preset": preset}),
                name=f"{preset}-{tokens}",
            )
            for preset in ("ovam-voc-sim", "daam-ovam")
            for tokens in ("words", "untrained")
        ]
        result = compare(parts, setups, out, strength=0.5, draws=50)
        write_comparison(result, out, ["A remark."])
        return result, out


def test_thresholds_are_chosen_on_the_other_part(found):
    result, _ = found
    for line in result.lines:
        assert {key.split("_")[0] for key in line.tuning.plain.keys} == {"train"}
        assert {key.split("_")[0] for key in line.fixed.plain.keys} == {"val"}
        mious = line.tuning.mious()
        assert line.tuned.tau in TAUS
        assert mious[TAUS.index(line.tuned.tau)] == np.nanmax(mious)
        assert line.fixed.tau == line.setup.tau
        again = iou_table(line.tuned.final, draws=50)
        assert again == line.tuned_table
    # maps are fed by drawings of the picture's own split
    assert result.tuning_pictures == 3
    assert len(result.reported) == 4


def test_gains_are_tokens_against_words(found):
    result, _ = found
    assert [gain.preset for gain in result.gains] == ["ovam-voc-sim", "daam-ovam"]
    words, tokens = result.lines[:2]
    gain = result.gains[0].fixed
    expected = tokens.fixed_table.miou.value - words.fixed_table.miou.value
    assert gain.value == pytest.approx(expected)


def test_the_page(found):
    result, out = found
    page = (out / "comparison.md").read_text()
    assert "A remark." in page
    assert "the 3 pictures of the split train" in page
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ovam |")]
    assert len(rows) == 4
    assert [row[2].strip() for row in rows] == ["words", "untrained pairs"] * 2
    # the paper's mIoU of OVAM on both of its data sets, in the last two columns
    assert [cell.strip() for cell in rows[0][-3:-1]] == ["70.4", "58.2"]
    assert [cell.strip() for cell in rows[1][-3:-1]] == ["82.5", "69.2"]
    assert f"{100 * result.lines[0].tuned_table.miou.value:.1f} (" in "|".join(rows[0])
    assert "Tokens are untrained pairs" in page
    assert "| VOC-sim | Grounded Diffusion | tokens |" in page
    assert "| *paper: OVAM* | included | 53.6 | 62.7 |" in page
    assert "| *paper: DAAM* | all | 30.6 |" in page
    for name in re.findall(r"\]\((.+?)\)", page):
        assert (out / name).exists()
    assert len(summary_lines(result)) == 5


def test_the_data(found):
    result, out = found
    data = json.loads((out / "comparison.json").read_text())
    assert data == comparison_data(result, ["A remark."])
    assert len(data["rows"]) == 4
    row = data["rows"][0]
    assert row["paper_miou"] == {"VOC-sim": 70.4, "COCO-cap": 58.2}
    assert row["tuned"]["tau"] == result.lines[0].tuned.tau
    assert row["tuned"]["by_word"]["all"]["miou"] == row["tuned"]["miou"]
    assert [step["tau"] for step in row["miou_over_tau"]] == list(TAUS)
    assert data["paper"]["model"] == "Stable Diffusion 1.5"
    assert (out / "per_image" / "daam-ovam-words.csv").read_text().count("\n") == 5


def test_the_papers_figures_stand_beside_vocs_classes_alone(found):
    """The same counts as those of a set with two of VOC's classes under their ids."""
    result, _ = found
    classes = {"name": "pets", "classes": [{"id": 8, "name": "cat"}, {"id": 12, "name": "dog"}]}
    pets = ClassSet.from_record(classes)

    def of_pets(judged):
        refined = judged.refined and replace(judged.refined, classes=pets)
        return replace(judged, plain=replace(judged.plain, classes=pets), refined=refined)

    lines = []
    for line in result.lines:
        judged = {name: of_pets(getattr(line, name)) for name in ("fixed", "tuned", "tuning")}
        tables = {
            f"{name}_table": iou_table(judged[name].final, draws=20) for name in ("fixed", "tuned")
        }
        lines.append(replace(line, **judged, **tables))
    pictures = replace(result.pictures, classes=pets)
    own = replace(result, pictures=pictures, lines=tuple(lines))
    page = comparison_markdown(own, figures=[], remarks=[])
    assert "| method | by | preset | τ | cat | dog | mIoU | overall | pictures |" in page
    assert "paper," not in page
    assert "The paper's" not in page
    data = comparison_data(own, [])
    assert data["dataset"]["classes"] == "pets"
    assert "paper" not in data
    assert data["rows"][0]["paper_miou"] == {}


def test_the_figures(found):
    _, out = found
    names = {path.name for path in out.iterdir() if path.suffix in (".png", ".pdf")}
    stems = ["miou_over_tau"]
    stems += [f"{k}-{p}" for k in ("maps", "masks") for p in ("ovam-voc-sim", "daam-ovam")]
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")}
    for name in names:
        path = out / name
        # noise, as the toy pictures are, is what PNG compresses worst
        assert path.stat().st_size < 800_000
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert min(picture.size) > 300
        else:
            assert b"CreationDate" not in path.read_bytes()


def test_pictures_of_a_figure_are_told_by_class_and_key(found):
    result, _ = found
    keys = [picture.key for picture in figure_pictures(result.reported, 3)]
    assert keys == ["val_0", "val_1", "val_2"]
    assert [picture.key for picture in figure_pictures(result.reported, 1)] == ["val_0"]


def test_a_cut_out_shows_the_object_in_its_colours():
    image = np.full((6, 6, 3), (200, 40, 40), np.uint8)
    mask = np.zeros((6, 6), bool)
    mask[1:6, 1:6] = True
    unknown = np.zeros((6, 6), bool)
    unknown[0, 5] = True
    shown = cut_out(image, mask, unknown)
    assert shown[3, 3].tolist() == [200, 40, 40]
    assert shown[1, 3].tolist() == [255, 140, 0]
    assert len(set(shown[0, 0].tolist())) == 1
    assert shown[0, 0, 0] < 60
    assert shown[0, 5].tolist() == [240, 240, 240]


def test_parts_by_hash(voc_folder):
    pictures = open_pictures(voc_folder)
    parts = split_by_hash(pictures, 0.5)
    assert parts.tune_keys
    assert parts.report_keys
    assert not parts.tune_keys & parts.report_keys
    assert len(parts.tune_keys | parts.report_keys) == 6
    assert split_by_hash(pictures, 0.5).tune_keys == parts.tune_keys
    assert split_by_hash(pictures, 0.9).tune_keys >= parts.tune_keys
    with pytest.raises(ConfigError, match="between 0 and 1"):
        split_by_hash(pictures, 1.0)
    with pytest.raises(ConfigError, match="1 pictures cannot be parted"):
        split_by_hash(open_pictures(voc_folder, limit=1), 0.5)


def test_parts_must_share_no_picture(two_splits):
    pictures = open_pictures(two_splits)
    with pytest.raises(ConfigError, match="it shares 4 such as val_0"):
        split_by_name(pictures, open_pictures(two_splits))


def parts_at(folder, fraction):
    """Whether a part of the pictures is tuned on and a part reported on."""
    try:
        return split_by_hash(open_pictures(folder), fraction)
    except ConfigError:
        return None


@pytest.mark.slow  # test_picture_set.py has the command on the set that ships
def test_the_command_on_samples(sample_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "load_pipeline", lambda _: tiny_sd())
    command = ["evaluate", "compare", "--dataset", str(sample_folder), "--out", str(tmp_path / "o")]
    options = ["--device", "cpu", "--set", "runtime.cpu_threads=1", "--tokens", "untrained"]
    fraction = next(f for f in np.arange(0.02, 1, 0.02) if parts_at(sample_folder, f))
    presets = ["--presets", "daam, attn2mask-supplementary", "--quick"]
    presets += ["--tune-fraction", str(fraction)]
    result = CliRunner().invoke(app, [*command, *options, *presets])
    assert result.exit_code == 0, result.output
    assert "daam-tokens" in result.stdout
    page = (tmp_path / "o" / "comparison.md").read_text()
    assert "quick look" in page
    assert "nearest to timestep 501" in page
    assert str(TINY_SD) in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tokens", "words"], "must name a bank or 'untrained'"),
        (["--tune-split", "a", "--tune-fraction", "0.5"], "give one"),
        (["--presets", "ovam-voc-sim,ovam-voc-sim"], "each once"),
        (["--presets", "nothing"], "unknown preset 'nothing'"),
        ([], "has no bank of its own"),
        (["--tune-split", "test"], "no split 'test'"),
    ],
)
def test_bad_wishes_before_anything_is_drawn(voc_folder, tmp_path, options, message, monkeypatch):
    monkeypatch.setattr(recording, "load_pipeline", None)
    monkeypatch.setattr(comparison, "load_pipeline", None)
    out = tmp_path / "o"
    command = ["evaluate", "compare", "--dataset", str(voc_folder), "--out", str(out)]
    command += ["--model", str(TINY_SD), "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, *options])
    assert isinstance(result.exception, ConfigError), result.output
    assert message in str(result.exception)
    assert not out.exists()
