"""The table of trained segmentors, from shards to scores, with the real parts at a small size."""

import json

import pytest
from safetensors.torch import load_file

from ovamgen.errors import ConfigError
from ovamgen.evaluate.table_s1 import REAL, make_table, to_markdown
from ovamgen.evaluate.table_s1_settings import build_table_settings
from tests.pictures.voc_folders import write_voc


@pytest.fixture
def asked(tmp_path):
    write_voc(tmp_path / "voc", {"train": 4, "val": 4})
    (tmp_path / "captions.csv").write_text(
        "id,caption\n1,a photograph of a cat\n2,a photograph of a dog\n"
        "3,a photograph of a sofa\n4,a photograph of a bird\n"
    )
    return {
        "images": 3,
        "generate": {
            "plan": {"captions": str(tmp_path / "captions.csv"), "shard_size": 2, "batch_size": 2},
            "model": {"id": "mini"},
            "synthesis": {"steps": 1},
        },
        "train": {"steps": 2, "batch_size": 2, "crop_px": 32},
        "voc": str(tmp_path / "voc"),
        "real": str(tmp_path / "voc"),
        "rows": [
            {"name": "words", "preset": "paper", "tokens": "words"},
            {"name": "daam-pairs", "preset": "daam-ovam", "tokens": "untrained"},
        ],
    }


def test_every_row_is_made_trained_and_scored_once(asked, tmp_path):
    settings, out = build_table_settings(asked), tmp_path / "table"
    said = []
    rows = make_table(settings, out, said.append)
    assert [(r.name, r.method, r.tokens, r.images) for r in rows] == [
        ("words", "ovam", "words", 3),
        ("daam-pairs", "daam-ovam", "untrained", 3),
        (REAL, "", "", 4),
    ]
    for row in rows:
        assert row.miou_21_with_background is not None
        assert 0 <= row.miou_21_with_background <= 1
        assert len(row.iou) == 21
    scores = json.loads((out / "rows/words/scores/scores.json").read_text())
    assert scores["miou_21_with_background"] == rows[0].miou_21_with_background
    page = (out / "table.md").read_text()
    assert page == to_markdown(settings, rows)
    # words of ovam, then the paper's row of them
    assert "| *paper: OVAM, words* | 49.9 | 31.4 |" in page
    assert "| *paper: DAAM, tokens* | 37.0 |" in page
    assert [r["name"] for r in json.loads((out / "table.json").read_text())["rows"]] == [
        row.name for row in rows
    ]
    weights = out / "rows/words/segmentor/segmentor.safetensors"
    tar = out / "rows/words/corpus/train-000000.tar"
    stamps = [path.stat().st_mtime_ns for path in (weights, tar)]
    assert make_table(settings, out, said.append) == rows
    assert [path.stat().st_mtime_ns for path in (weights, tar)] == stamps


@pytest.mark.slow
def test_a_row_goes_on_from_its_training_on_small_pictures(asked, tmp_path):
    asked["rows"] = asked["rows"][:1]
    del asked["real"]
    straight = build_table_settings(asked)
    asked["pretrain"] = {"steps": 3, "batch_size": 2, "crop_px": 48}
    settings = build_table_settings(asked)
    assert [(t.steps, t.crop_px) for t in settings.trainings({"real": "x"})] == [(3, 48), (2, 32)]
    make_table(settings, tmp_path / "two", lambda line: None)
    make_table(straight, tmp_path / "one", lambda line: None)
    place = "rows/words/segmentor/segmentor.safetensors"
    first = load_file(tmp_path / "two/rows/words/pretrained/segmentor.safetensors")
    second, alone = load_file(tmp_path / "two" / place), load_file(tmp_path / "one" / place)
    name = max(first, key=lambda name: first[name].numel())
    # two steps change less than other first weights do
    assert (second[name] - first[name]).norm() < (second[name] - alone[name]).norm() / 2
    assert "3 steps at 48 pixels, then 2 steps at 32" in (tmp_path / "two/table.md").read_text()


@pytest.mark.slow
def test_an_interrupted_table_goes_on_with_the_next_row(asked, tmp_path, monkeypatch):
    settings, out = build_table_settings(asked), tmp_path / "table"

    def stop(line):
        if "daam-pairs" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_table(settings, out, stop)
    assert len(json.loads((out / "table.json").read_text())["rows"]) == 1
    assert len(make_table(settings, out, lambda line: None)) == 3


def test_the_quick_table_is_smaller_and_another_one(asked, tmp_path):
    settings = build_table_settings(
        asked | {"images": 500, "train": {"size": "small"}, "pretrain": {"steps": 900}}
    )
    quick = settings.quick()
    assert (quick.images, quick.rows) == (24, settings.rows)
    assert (quick.train, quick.pretrain) == ({"size": "small", "steps": 40}, {"steps": 40})
    assert settings.pretrain == {"steps": 900}
    (tmp_path / "table").mkdir()
    (tmp_path / "table/settings.json").write_text(json.dumps({"images": 1}))
    with pytest.raises(ConfigError, match="holds a table of other settings"):
        make_table(quick, tmp_path / "table")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "rows"),
        ({"rows": [{"name": "a b", "tokens": "words"}]}, "rows.0.name"),
        ({"rows": [{"name": "a", "tokens": "words"}] * 2}, "different names"),
        ({"imagess": 3}, "imagess"),
    ],
)
def test_settings_that_make_no_table_are_refused(asked, change, message):
    with pytest.raises(ConfigError, match=message):
        build_table_settings(asked | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"name": "a", "preset": "papr", "tokens": "words"}]}, "did you mean 'paper'"),
        ({"voc": "nowhere"}, "nowhere"),
        ({"real_split": "trainn"}, "trainn"),
        ({"train": {"stepss": 3}}, "stepss"),
    ],
)
def test_what_is_wrong_with_any_row_is_found_before_the_first(asked, tmp_path, change, message):
    settings = build_table_settings(asked | change)
    with pytest.raises(ConfigError, match=message):
        make_table(settings, tmp_path / "table")
    assert not (tmp_path / "table").exists()
