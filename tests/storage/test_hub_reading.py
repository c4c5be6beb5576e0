"""hf://: datasets of a Hub on the loopback are read like a bucket, and never written."""

from pathlib import Path

import pytest

from ovamgen.config import build_config
from ovamgen.corpus.dataset import segmentation_dataset
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.voc import VocFormat
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError, ShardError
from ovamgen.generation import generate
from ovamgen.integrity.verify import verify
from ovamgen.report.write import write_report
from ovamgen.run.run import write_plan
from ovamgen.storage import retrying
from ovamgen.storage.object_store import ObjectStore
from tests.corpus.hub_server import TOKEN, hub
from tests.runs import PROMPTS, captions_file, digests


@pytest.fixture
def folder(run):
    """Of a finished run."""
    return Path(run.url)


@pytest.fixture
def served(folder, monkeypatch):
    """The Hub with a finished run in a folder of a dataset, and the environment for it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(retrying, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub(tree=1, get=1) as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        state.repository = "me/things"
        for name in digests(folder):
            state.files[f"first/{name}"] = (folder / name).read_bytes()
        yield state


URL = "hf://datasets/me/things/first"


def test_a_corpus_is_read_from_the_hub(served, folder, tmp_path):
    """Its first listing and its first reads fail, and are made again."""
    store = ObjectStore(URL)
    assert store.list() == sorted(digests(folder))
    assert served.asked["tree"] == 2
    assert {name: store.read(name) for name in store.list()} == {
        name: (folder / name).read_bytes() for name in store.list()
    }
    assert served.asked["get"] > 2
    assert store.size("nothing") is None
    with pytest.raises(ShardError, match="no such file"):
        store.read("nothing")

    write_report(URL, str(tmp_path / "report.html"))
    write_report(str(folder), str(tmp_path / "local.html"))
    assert (tmp_path / "report.html").stat().st_size > 1000
    settings = SelectionSettings(area_quantiles=None)
    assert select(URL, str(tmp_path / "copy"), settings, copy=True).samples == 11
    for name in digests(tmp_path / "copy"):
        served.files[f"copy/{name}"] = (tmp_path / "copy" / name).read_bytes()
    found = verify(URL.replace("first", "copy"))
    assert (found.ok, found.samples) == (True, 11)
    export_folder(URL, str(tmp_path / "voc"), VocFormat())
    export_folder(str(folder), str(tmp_path / "voc-local"), VocFormat())
    pictures = {n: d for n, d in digests(tmp_path / "voc").items() if n.endswith(("jpg", "png"))}
    assert len(pictures) == 22
    assert pictures.items() <= digests(tmp_path / "voc-local").items()
    assert len(list(segmentation_dataset(f"{URL.replace('things', 'things@main')}"))) == 11


def test_captions_come_from_the_hub(served, tmp_path):
    captions = captions_file(tmp_path / "captions.csv", PROMPTS)
    served.files["captions.csv"] = captions.read_bytes()
    base = {
        "plan": {"captions": "hf://datasets/me/things/captions.csv"},
        "model": {"id": "mini"},
        "out": str(tmp_path / "out"),
    }
    plan = write_plan(build_config(base, {}))
    assert sum(len(task.specs) for task in plan.tasks) == len(PROMPTS)


def test_nothing_is_written_there(served, tmp_path):
    """In one line, before any model is loaded."""
    captions = captions_file(tmp_path / "captions.csv", PROMPTS)
    base = {"plan": {"captions": str(captions)}, "model": {"id": "mini"}, "out": f"{URL}-2"}
    store, before = ObjectStore(URL), dict(served.files)
    for act in (
        lambda: generate(build_config(base, {})),
        lambda: store.put("a", b""),
        lambda: store.create("a", b""),
        lambda: store.delete("run.yaml"),
        lambda: write_report(URL),
    ):
        with pytest.raises(ConfigError, match=r"can be read only: the Hub makes a commit") as info:
            act()
        assert len(str(info.value).splitlines()) == 1
    assert served.files == before
    assert not served.asked["commit"]


@pytest.mark.parametrize(
    ("change", "url", "told"),
    [
        ({"HF_TOKEN": "hf_another"}, URL, r"check the token \(HF_TOKEN"),
        ({}, "hf://datasets/me/nothing/first", "me/nothing"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(served, monkeypatch, change, url, told):
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((ConfigError, ShardError), match=told) as info:
        ObjectStore(url).read("run.yaml")
    assert len(str(info.value).splitlines()) == 1
    assert not any(token in str(info.value) for token in (TOKEN, "hf_another"))


def test_offline_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE says not to reach it: unset it"):
        ObjectStore(URL)
