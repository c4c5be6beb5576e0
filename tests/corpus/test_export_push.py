"""`ovamgen export ... --push`: the Hub's own uploader against a Hub on the loopback."""

import json

import pytest

from tests.command_line import ovamgen, ovamgen_alone
from tests.corpus.corpora import FEW, patchwork_samples, write_corpus
from tests.corpus.hub_server import TOKEN, hub


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus") / "run"
    return write_corpus(root, (3, 2), patchwork_samples, classes=FEW)[0].url


def environment(state, token=TOKEN):
    return {
        "HF_ENDPOINT": state.url,
        "HF_TOKEN": token,
        "HF_HUB_OFFLINE": "0",
        # the loopback has no Xet
        "HF_HUB_DISABLE_XET": "1",
    }


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize(
    "faults",
    [
        {"create": 1, "put": 1},
        pytest.param(
            {"create": 1, "modes": 1, "batch": 2, "put": 2, "commit": 2}, marks=pytest.mark.slow
        ),
    ],
)
def test_the_hub_holds_the_folder_whatever_fails(corpus, tmp_path, faults):
    """The first calls of a kind are refused or cut off, and are made again."""
    with hub(**faults) as state:
        done = ovamgen_alone(
            *("export", "parquet", corpus, "--out", tmp_path / "out"),
            *("--push", "me/things", "--private", "--json"),
            **environment(state),
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["pushed"] == f"{state.url}/datasets/me/things"
        assert state.files == files_of(tmp_path / "out")
        assert state.private is True
        assert TOKEN not in done.stdout + done.stderr
        assert "status 503); attempt 2" in done.stderr
        assert state.asked["put"] == 2 + faults["put"]
    header = state.files["README.md"].decode().split("---\n")[1]
    assert "data/train-*.parquet" in header


@pytest.mark.slow
def test_tars_are_pushed_once(corpus, tmp_path):
    with hub() as state:
        for _ in range(2):
            done = ovamgen_alone(
                *("export", "hf", corpus, "--out", tmp_path / "out", "--push", "me/tars"),
                **environment(state),
            )
            assert done.returncode == 0, done.stderr
            assert f"sent to        {state.url}/datasets/me/tars" in done.stdout
        assert state.files == files_of(tmp_path / "out")
        assert state.asked["put"] == 4  # two tars and their metadata, once


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "faults", "code", "told"),
    [
        ("hf_ofSomebodyElse", {}, 2, "refuses me/things (status 401): check its name, and that"),
        (TOKEN, {"commit": 99}, 1, "is whole but could not be sent to me/things"),
        (TOKEN, {"put": 99}, 1, "is whole but could not be sent to me/things"),
    ],
)
def test_a_hub_that_refuses(corpus, tmp_path, token, faults, code, told):
    with hub(**faults) as state:
        done = ovamgen_alone(
            *("export", "parquet", corpus, "--out", tmp_path / "out", "--push", "me/things"),
            **environment(state, token),
        )
    assert done.returncode == code
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "export.json").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--push", "a/b/c"], "expects a repository such as NAME/DATASET, got 'a/b/c'"),
        (["--push", "me/things"], "HF_HUB_OFFLINE says not to reach it"),
        (["--push", "me/things", "--out", "s3://b/c"], "--push sends a local folder: give one"),
        (["--private"], "--private is about the repository that --push names"),
    ],
)
def test_what_a_push_needs_is_asked_first(corpus, tmp_path, more, told):
    for kind in ("hf", "parquet"):
        done = ovamgen("export", kind, corpus, "--out", tmp_path / "out", *more)
        assert done.returncode == 2
        assert told in done.stderr
        assert not (tmp_path / "out").exists()
