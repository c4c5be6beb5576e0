import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import Sample, SampleFolder
from recipes.mini import cli
from recipes.mini.blind import draw_blind_sheet, score_guesses

CLASSES = ("cat", "dog", "tvmonitor", "motorbike")


@pytest.fixture
def folder(tmp_path):
    """Forty pictures, each of one colour that tells its class and number."""
    samples = [
        Sample(key=f"{name}-{i}", class_name=name, prompt=f"a {name}", seed=i)
        for name in CLASSES
        for i in range(10)
    ]
    folder = SampleFolder.create(tmp_path / "samples", samples, {"model": {"id": "mini"}})
    for number, sample in enumerate(samples):
        folder.add_image(sample, np.full((8, 8, 3), 6 * number, np.uint8))
    return folder


def rows(key):
    with key.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_key_tells_what_the_sheet_shows(folder, tmp_path):
    sheet, key = tmp_path / "sheet.png", tmp_path / "apart" / "key.csv"
    draw_blind_sheet(folder, sheet, key, count=25, seed=1)
    listed = rows(key)
    assert [int(row["number"]) for row in listed] == list(range(1, 26))
    assert len({row["key"] for row in listed}) == 25
    colors = {sample.key: 6 * number for number, sample in enumerate(folder.samples)}
    with Image.open(sheet) as page:
        pixels = np.asarray(page)
    assert pixels.shape == (3 * 24, 80, 3)
    for place, row in enumerate(listed):
        top, left = place // 10 * 24 + 16, place % 10 * 8
        assert (pixels[top : top + 8, left : left + 8] == colors[row["key"]]).all()


def test_the_order_is_a_function_of_the_seed_and_no_class_has_a_known_share(folder, tmp_path):
    found = []
    for seed in (1, 1, 2):
        draw_blind_sheet(folder, tmp_path / "s.png", tmp_path / "k.csv", count=20, seed=seed)
        found.append([row["class_name"] for row in rows(tmp_path / "k.csv")])
    assert found[0] == found[1] != found[2]
    assert {found[0].count(name) for name in CLASSES} != {5}
    with pytest.raises(ConfigError, match=r"needs 41 pictures, .* has 40"):
        draw_blind_sheet(folder, tmp_path / "s.png", tmp_path / "k.csv", count=41, seed=1)


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key.csv"
    path.write_text("number,key,class_name\n1,a,cat\n2,b,tvmonitor\n3,c,motorbike\n4,d,cat\n")
    return path


def test_guesses_are_scored_by_any_name_of_the_class(key, tmp_path, monkeypatch, capsys):
    guesses = tmp_path / "guesses.txt"
    guesses.write_text("# by eye\n1 kitten\n2: Television  # an old one\n\n3 dog\n")
    found = score_guesses(key, guesses)
    assert found["pictures"] == 4
    assert found["named_right"] == 2
    assert found["without_a_guess"] == 1
    assert found["by_class"] == {"cat": "1/2", "motorbike": "0/1", "tvmonitor": "1/1"}
    assert found["mistakes"] == {"motorbike taken for dog": 1, "cat taken for nothing": 1}
    command = ["recipes.mini", "blind-score", "--key", key, "--guesses", guesses]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "1 giraffe",
            r"line 2: expected a number and the name of a class or '\?', got '1 giraffe'",
        ),
        ("cat", "expected a number and the name"),
        ("5 cat", "picture 5 is not on the sheet"),
        ("4 cat", "picture 4 was guessed before"),
    ],
)
def test_a_line_that_is_no_guess_is_named(key, tmp_path, line, message):
    (tmp_path / "guesses.txt").write_text(f"4 ?\n{line}\n")
    with pytest.raises(ConfigError, match=message):
        score_guesses(key, tmp_path / "guesses.txt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv cannot be read: No such file"):
        score_guesses(tmp_path / "none.csv", tmp_path / "guesses.txt")
