"""`select`, `reannotate` and `export` as a person meets them."""

import json

import pytest
from typer.testing import CliRunner

from ovamgen.cli.app import app
from ovamgen.errors import ConfigError
from tests.command_line import ovamgen
from tests.corpus.corpora import plain_samples, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "run", (12, 6), plain_samples)[0].url


def test_from_a_corpus_to_a_view_to_exports(corpus, tmp_path):
    done = ovamgen(
        *("select", corpus, "--out", tmp_path / "view", "--area-quantiles", "none"),
        *("--classes", "cat,tv", "--json"),
    )
    assert done.returncode == 0, done.stderr
    selected = json.loads(done.stdout)
    assert selected["samples"] == 7
    assert selected["funnel"]["dropped"] == {"uniform": 0, "class": 11}
    done = in_process(
        "export", "voc", tmp_path / "view", "--source", corpus, "--out", tmp_path / "voc", "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert sum(json.loads(done.stdout)[name] for name in ("train", "val")) == 7
    done = in_process(
        "export", "hf", tmp_path / "view", "--source", corpus, "--out", tmp_path / "hf"
    )
    assert done.exit_code == 0, done.stderr
    assert "7 in 2 shards" in done.stdout


def in_process(*arguments):
    """The command without a new interpreter; errors of ovamgen come out as they are."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_funnel_is_a_table(corpus, tmp_path):
    done = in_process("select", corpus, "--out", tmp_path / "view", "--min-score", "0.95")
    assert done.exit_code == 0, done.stderr
    assert "planned in the finished shards" in done.stdout
    assert "score below the minimum" in done.stdout
    assert "CLIP: not scored" in done.stdout
    assert "nothing is kept" in done.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["select", "--area-quantiles", "5,95"],
            "--area-quantiles must be two numbers from 0 to 1",
        ),
        (["select", "--area-quantiles", "some"], "expects two numbers such as 0.05,0.95"),
        (["select", "--classes", "cta"], "did you mean 'cat'?"),
        (["reannotate", "--set", "plan.seed=1"], "changes masks only"),
        (["reannotate", "--workers", "0"], "--workers must be at least 1"),
        (["reannotate"], "with its run.yaml"),
        (["export", "voc", "--val-share", "2"], "from 0 to 1"),
        (["export", "voc", "--val-share", "0.1", "--split", "train=1"], "give one of them"),
        (["export", "coco", "--min-area", "0"], "--min-area must be at least 1 pixel, got 0"),
        (["export", "parquet", "--split", "train=0.9"], "add up to 1"),
        (["export", "cvat", "--size", "big"], "--size expects pixels"),
        (["export", "labelstudio", "--only-classes", "caat"], "did you mean 'cat'?"),
    ],
)
def test_wrong_options_are_one_line(corpus, tmp_path, command, message):
    done = in_process(*command, corpus, "--out", tmp_path / "new")
    assert isinstance(done.exception, ConfigError)
    assert done.exception.exit_code == 2
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert done.stdout == ""
    assert not (tmp_path / "new").exists()


def test_a_wrong_option_ends_with_its_exit_code(corpus, tmp_path):
    done = ovamgen("select", corpus, "--out", tmp_path / "new", "--min-score", "7")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ovamgen: --min-score must be from 0 to 1, got 7.0\n"


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        ("coca", "coco"),
        ("label-studio", "labelstudio"),
        ("yolo-ultralytic", "ultralytics"),
        ("parket", "parquet"),
    ],
)
def test_an_unknown_format_is_answered_with_the_nearest_name(corpus, tmp_path, kind, meant):
    done = ovamgen("export", kind, corpus, "--out", tmp_path / "new")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"No such command '{kind}'. Did you mean '{meant}'?" in done.stderr


FOLDERS = [
    ["voc"],
    ["coco"],
    ["coco", "--form", "panoptic", "--regions", "class", "--min-area", "4"],
    ["ultralytics"],
    ["ultralytics", "--form", "polygons"],
    ["cvat"],
    ["parquet", "--overlay"],
    ["labelstudio", "--image-url", "https://pictures.example/"],
]


@pytest.mark.parametrize("command", FOLDERS, ids=" ".join)
def test_every_export_from_the_command_line(corpus, tmp_path, command):
    more = ("--split", "train=0.8,val=0.2", "--size", "32", "--only-classes", "cat,tv", "--json")
    done = in_process("export", *command, corpus, "--out", tmp_path / "out", *more)
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads(done.stdout)
    assert result.pop("out") == str(tmp_path / "out")
    assert sum(result.values()) == 18
    mark = json.loads((tmp_path / "out" / "export.json").read_text())
    assert {name: mark["request"][name] for name in ("split", "size", "only_classes")} == {
        "split": "train=0.8,val=0.2",
        "size": "32",
        "only_classes": ["cat", "tvmonitor"],
    }
    assert "resized to 32" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    "command", [["select"], ["reannotate"], ["export"], ["export", "voc"], ["export", "hf"]]
)
def test_help_has_an_example(command):
    done = in_process(*command, "--help")
    assert done.exit_code == 0
    assert command == ["export"] or "Example: ovamgen" in " ".join(done.stdout.split())
