"""Samples that show no class, from the plan to whoever reads them."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ovamgen.classes.loading import built_in
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.hf import export_hf
from ovamgen.corpus.export.voc import VocFormat
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.reannotate import reannotate
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.generation import generate
from ovamgen.integrity.replay import replay
from ovamgen.integrity.verify import verify
from ovamgen.report.write import write_report
from ovamgen.segmentor.examples import ShardExamples
from ovamgen.shards.codec import decode_sample
from ovamgen.shards.finished_shard import read_members
from ovamgen.shards.output_files import metadata_name
from ovamgen.shards.schema import NO_TARGET
from tests.fakes import DiscEngine
from tests.runs import PROMPTS, run_config

LOCAL = {"runner": "local"}
SILENT = ["a bowl of soup", "an empty room", "snow on a hill", "a green door", "a wall", "a spoon"]
EMPTY = ["00000000001", "00000000003", "00000000005", "00000000007", "00000100001", "00000100003"]
"""Keys of the samples without any class: every second one."""


def config_of(folder, **sections):
    plan = {"empty_share": 0.5, "limit": 12}
    sections = {"runtime": LOCAL, "shards": {"heatmaps": True}, "plan": plan} | sections
    return run_config(folder, texts=[*PROMPTS, *SILENT], **sections)


@pytest.fixture(scope="session")
def out(tmp_path_factory):
    """Twelve samples in two shards, every second one without any class."""
    config = config_of(tmp_path_factory.mktemp("empty"))
    generate(config, DiscEngine)
    return config.out


def samples_of(out):
    corpus = open_corpus(out)
    return {
        key: decode_sample(members)
        for record in corpus.records
        for key, members in read_members(corpus.store, record)
    }


def test_their_masks_are_background_and_their_lists_have_a_type(out):
    samples = samples_of(out)
    for key, sample in samples.items():
        is_empty = key in EMPTY
        assert (not sample.labels.any()) == is_empty
        for name, values in NO_TARGET.items():
            assert (sample.metadata[name] == list(values)) == is_empty, name
    assert len(samples) == 12
    rows = pq.read_table(Path(out) / metadata_name(0)).to_pylist()
    assert [row["key"] for row in rows if not row["previews"]] == EMPTY[:4]


def test_they_are_verified_and_made_again(out):
    found = verify(out)
    assert found.ok, found.lines()
    done = replay(out, EMPTY[1], factory=DiscEngine)
    assert done.members_equal, done.lines()


def test_a_mask_that_is_not_all_background_shows(out, tmp_path):
    from ovamgen.integrity.sample_check import SampleRules, problems_of

    corpus = open_corpus(out)
    members = dict(next(m for k, m in read_members(corpus.store, corpus.records[0]) if k in EMPTY))
    assert problems_of(EMPTY[0], members, SampleRules(), None, None) == []
    data = json.loads(members["json"])
    for ids in ([0, 0], [0, 8]):
        members["json"] = json.dumps(
            data | {name: [*values] * 2 for name, values in NO_TARGET.items()} | {"class_ids": ids},
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
        [problem] = problems_of(EMPTY[0], members, SampleRules(), None, None)
        assert "the targets" in problem


def test_selections_keep_them_and_say_so(out, tmp_path):
    shown = [sample.metadata["class_names"] for sample in samples_of(out).values()]
    name = next(names[0] for names in shown if len(names) == 1 and names != ["background"])
    strict = SelectionSettings(
        drop_uniform=False,
        area_quantiles=None,
        classes=(name,),
        min_score=0.1,
        max_area=0.9,
        max_per_class=1,
    )
    made = select(out, str(tmp_path / "view"), strict)
    assert made.samples == 1 + 6
    assert any("6 samples show no class" in note for note in made.funnel.notes)
    assert set(EMPTY) < set((tmp_path / "view/keys.txt").read_text().split())
    select(out, str(tmp_path / "copy"), strict, copy=True)
    assert verify(str(tmp_path / "copy")).ok


def test_reports_and_cards_count_them(out, tmp_path):
    write_report(out, str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "without any class" in page
    assert "no class" in page
    card = (Path(out) / "README.md").read_text()
    assert "| 0 | background | | 6 |" in card
    assert "Those of the background show no class.\n\n## How it was made" in card


def test_masks_can_be_made_again(out, tmp_path):
    reannotate(out, str(tmp_path / "anew"), overrides={"tau": 0.3})
    found = verify(str(tmp_path / "anew"))
    assert found.ok, found.lines()
    again = samples_of(str(tmp_path / "anew"))
    assert all(not again[key].labels.any() for key in EMPTY)
    assert again[EMPTY[0]].metadata["areas"] == [1.0]


def test_training_reads_them(out):
    examples = ShardExamples(out)
    found = {example.name: example for example in map(examples.read, range(len(examples)))}
    assert not any(found[key].labels.any() for key in EMPTY)
    assert len(found) == 12


def test_exports_hold_them(out, tmp_path):
    export_folder(out, str(tmp_path / "voc"), VocFormat())
    table = (tmp_path / "voc/classes.csv").read_text().splitlines()
    assert table[1].startswith("0,background")
    assert table[1].endswith(",6")
    export_hf(out, str(tmp_path / "hf"))
    assert verify(str(tmp_path / "hf")).ok


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning")
def test_hugging_face_reads_them(tmp_path, offline_datasets, streaming):
    """Also where the first samples, which types are told by, show no class."""
    config = config_of(tmp_path, plan={"empty_share": 1.0})
    generate(config, DiscEngine)
    more = config_of(tmp_path, plan={"empty_share": 0.3})
    generate(more, DiscEngine, extend=True)
    found = offline_datasets.load_dataset(
        "webdataset", data_files=f"{config.out}/*.tar", split="train", streaming=streaming
    )
    rows = list(found)
    assert len(rows) == 6 + 7
    assert rows[0]["json"]["class_names"] == ["background"]
    assert {name for row in rows for name in row["json"]["class_names"]} > {"background", "cat"}
    assert all(
        np.asarray(row["mask.png"]).any() == (row["json"]["class_ids"] != [0]) for row in rows
    )


@pytest.mark.slow
@pytest.mark.parametrize("classes", ["voc", "more than are always recorded"])
def test_the_embedded_model_draws_them(tmp_path, classes):
    synthesis = {"synthesis": {"steps": 2}}
    if classes != "voc":
        names = [entry.name for entry in built_in("coco").classes]
        synthesis |= {"classes": [*names, "forklift"]}
    plan = {"empty_share": 1.0, "limit": 3}
    generate(config_of(tmp_path / "none", plan=plan, shards={}, **synthesis))
    plan = {"empty_share": 0.5, "limit": 4}
    generate(config_of(tmp_path / "half", plan=plan, shards={}, **synthesis))
    for folder, empty in (("none", 3), ("half", 2)):
        found = verify(str(tmp_path / folder / "out"))
        assert found.ok, found.lines()
        masks = [sample.labels for sample in samples_of(str(tmp_path / folder / "out")).values()]
        assert sum(not mask.any() for mask in masks) >= empty
