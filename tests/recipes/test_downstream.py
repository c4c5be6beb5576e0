import json

import numpy as np
import pytest
from PIL import Image

from ovamgen.errors import ConfigError
from recipes.mini import downstream
from recipes.mini.downstream import Found, StudyRow, plot, read_study, run_study, to_markdown
from tests.pictures.voc_folders import write_voc


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return str(write_voc(tmp_path_factory.mktemp("voc"), {"train": 4, "few": 2, "test": 3}))


def asked(voc, *, rows=None, **values):
    rows = rows or [
        {"name": "few", "samples": 2, "train": {"real": voc, "real_split": "few"}},
        {"name": "real", "samples": 4, "level": True, "train": {"real": voc}},
    ]
    train = {"steps": 2, "batch_size": 2, "crop_px": 32}
    return read_study(
        {"seeds": [0, 1], "voc": voc, "pretrain": train, "train": train, "rows": rows} | values
    )


def test_a_study_goes_on_where_it_stopped(voc, tmp_path, monkeypatch):
    said = []
    rows = run_study(asked(voc), tmp_path, 1, said.append)
    assert [each.row.name for each in rows] == ["few", "real"]
    assert [line.split(":")[0] for line in said] == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    for each in rows:
        for seed, miou in enumerate(each.miou):
            place = tmp_path / "rows" / f"{each.row.name}-{seed}"
            scores = json.loads((place / "scores" / "scores.json").read_text())
            assert scores["miou_21_with_background"] == miou
            assert (place / "pretrained").is_dir()
    assert json.loads((tmp_path / "study.json").read_text())["rows"][1] == {
        "name": "real",
        "miou": list(rows[1].miou),
    }
    assert (tmp_path / "study.md").read_text() == to_markdown(rows) + "\n"

    def never(*_):
        raise AssertionError("it is trained already")

    monkeypatch.setattr(downstream, "train_and_score", never)
    again = run_study(asked(voc), tmp_path, 1, said.append)
    assert [each.miou for each in again] == [each.miou for each in rows]
    fewer = run_study(asked(voc, rows=[asked(voc).rows[0].model_dump()]), tmp_path, 1, said.append)
    assert fewer[0].miou == rows[0].miou
    with pytest.raises(ConfigError, match="holds a study of other settings"):
        run_study(asked(voc, train={"steps": 3}), tmp_path, 1, said.append)


def test_the_first_training_may_learn_from_something_else(voc):
    few = {"real": voc, "real_split": "few"}
    row = {"name": "few-first", "samples": 6, "pretrain": few, "train": {"real": voc}}
    study = asked(voc, rows=[row])
    first, last = study.trainings(study.rows[0], 1)
    assert (first.real_split, last.real_split) == ("few", "train")
    assert first.seed == last.seed == 1


def found(name, samples, miou, **values):
    return Found(row=StudyRow(name=name, samples=samples, train={}, **values), miou=miou)


def test_the_table_has_mean_spread_and_share_of_the_real_line():
    rows = [
        found("two-hundred", 200, (0.2, 0.3), curve="synthetic"),
        found("real", 200, (0.5, 0.5), level=True),
    ]
    text = to_markdown(rows)
    assert "| two-hundred | 200 | 25.0 | 7.1 | 50 % |" in text
    assert "| real | 200 | 50.0 | 0.0 | 100 % |" in text


def test_the_plot_shows_every_curve_and_the_line(tmp_path):
    rows = [
        found("a", 200, (0.1, 0.2), curve="synthetic"),
        found("b", 1000, (0.3, 0.3), curve="synthetic"),
        found("real", 200, (0.5, 0.5), level=True),
    ]
    plot(rows, tmp_path / "study")
    first = np.asarray(Image.open(tmp_path / "study.png").convert("RGB")).astype(int)
    blue = np.abs(first - (0, 0x72, 0xB2)).sum(-1) < 30
    assert blue.any(), "the curve is drawn in the first colour"
    plot(rows[:2], tmp_path / "without")
    without = np.asarray(Image.open(tmp_path / "without.png").convert("RGB"))
    assert first.shape != without.shape or (first != without).any(), "the line is drawn"


def test_rows_of_one_name_are_refused(voc):
    row = {"name": "a", "samples": 1, "train": {"real": voc}}
    with pytest.raises(ConfigError, match="must have different names"):
        asked(voc, rows=[row, row])
