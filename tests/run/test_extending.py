"""A corpus that grows: old shards stay, new ones follow, and all that reads corpora knows them."""

import hashlib
import json
import shutil
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from ovamgen.corpus.export.hf import export_hf
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError
from ovamgen.generation import generate
from ovamgen.integrity.repair import repair
from ovamgen.integrity.replay import replay
from ovamgen.integrity.verify import verify
from ovamgen.report.write import write_report
from ovamgen.run.files import read_plan, read_run_files
from ovamgen.run.generations import fingerprints_of
from ovamgen.run.run import open_run, plan_of_extension
from ovamgen.shards.output_files import INDEXES
from ovamgen.status.status import run_status
from ovamgen.storage.store import open_store
from tests.fakes import DiscEngine
from tests.faults.command import Command
from tests.runs import PROMPTS, digests, run_config

LOCAL = {"runner": "local"}
TEXTS = [PROMPTS[i % len(PROMPTS)] for i in range(30)]
EVERYTHING = SelectionSettings(drop_uniform=False, area_quantiles=None)
OF_THE_WHOLE = {*INDEXES, "contact_sheet.png"}
"""Files that describe a corpus and are written anew when there is more of it."""


def config_of(folder, limit, captions=22, **sections):
    sections = {"runtime": LOCAL, **sections}
    return run_config(
        folder,
        texts=TEXTS[:captions],
        **{**sections, "plan": {"limit": limit} | sections.pop("plan", {})},
    )


def no_engine(config):
    raise AssertionError("nothing needs to be drawn")


@pytest.fixture(scope="session")
def grown(tmp_path_factory):
    """The digests after each of three generations, of 5, 10 and 5 samples, and the last output."""
    folder = tmp_path_factory.mktemp("grown")
    states = []
    for config in (config_of(folder, 5), config_of(folder, 15), config_of(folder, 20, 30)):
        generate(config, DiscEngine, extend=bool(states))
        states.append(digests(config.out))
    return states, folder / "out"


@pytest.fixture
def out(grown, tmp_path):
    """A copy of the corpus of three generations."""
    return Path(shutil.copytree(grown[1], tmp_path / "out"))


def test_old_files_keep_every_byte_and_keys_go_on(grown):
    states, out = grown
    for before, after in pairwise(states):
        changed = {name for name in before if after[name] != before[name]}
        assert changed <= OF_THE_WHOLE
    plan = read_plan(open_store(str(out)))
    assert [len(task.specs) for task in plan.tasks] == [5, 8, 2, 5]
    assert [spec.key for spec in plan.tasks[1].specs][:2] == ["00000100000", "00000100001"]
    assert len({spec.seed for spec in plan.specs}) == 20


def test_a_larger_limit_adds_what_it_would_have_planned_at_once(grown, tmp_path):
    generate(config_of(tmp_path, 15), DiscEngine)
    at_once = read_plan(open_store(str(tmp_path / "out")))
    extended = read_plan(open_store(str(grown[1])))
    assert [s.caption for s in at_once.specs] == [s.caption for s in extended.specs][:15]


def test_samples_that_are_there_are_not_planned_again(grown):
    plan = read_plan(open_store(str(grown[1])))
    assert len({spec.prompt for spec in plan.specs}) == plan.samples == 20
    taken = {spec.caption for spec in plan.specs}
    left_out = {rejection.caption for rejection in plan.rejections}
    assert len(left_out) == 10
    assert not taken & left_out


def test_the_manifest_lists_its_generations(grown):
    _, out = grown
    manifest = json.loads((out / "manifest.json").read_text())
    listed = manifest["generations"]
    assert [(g["first_shard"], g["shards"], g["samples"]) for g in listed] == [
        (0, 1, 5),
        (1, 2, 10),
        (3, 1, 5),
    ]
    marks = [shard["fingerprint"] for shard in manifest["shards"]]
    assert marks == [listed[g]["fingerprint"] for g in (0, 1, 1, 2)]
    assert fingerprints_of(manifest["run"]) == tuple(dict.fromkeys(marks))
    assert len(set(marks)) == 3


def test_a_corpus_that_never_grew_says_nothing_of_generations(tmp_path):
    config = config_of(tmp_path, 5)
    generate(config, DiscEngine)
    out = Path(config.out)
    assert "generation" not in (out / "run.yaml").read_text()
    assert "generations" not in json.loads((out / "manifest.json").read_text())
    assert not (out / "generations").exists()


def test_all_that_reads_a_corpus_knows_its_generations(out, tmp_path):
    found = verify(str(out))
    assert found.ok, found.lines()
    assert (found.shards, found.samples) == (4, 20)
    status = run_status(str(out))
    assert (status.state, status.samples_made, status.generations) == ("complete", 20, 3)
    for key in ("00000000001", "00000100003", "00000300004"):
        done = replay(str(out), key, factory=DiscEngine)
        assert done.members_equal, done.lines()
        assert not done.settings_different
    assert write_report(str(out), str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "by the first run" in page
    assert "in 2 extensions (generate --extend)" in page
    assert "failed ones tried again" not in page
    assert open_corpus(str(out)).samples == 20


def test_what_is_handed_on_of_it_is_whole(out, tmp_path):
    for copy in (False, True):
        made = tmp_path / f"selection-{copy}"
        assert select(str(out), str(made), EVERYTHING, copy=copy).samples == 20
        assert verify(str(made), source=None if copy else str(out)).ok
    assert export_hf(str(out), str(tmp_path / "hf")).samples == 20
    found = verify(str(tmp_path / "hf"))
    assert found.ok, found.lines()


def test_a_view_of_the_corpus_outlives_its_extension(tmp_path):
    config = config_of(tmp_path, 5)
    generate(config, DiscEngine)
    select(config.out, str(tmp_path / "view"), EVERYTHING)
    generate(config_of(tmp_path, 9), DiscEngine, extend=True)
    assert open_corpus(str(tmp_path / "view")).samples == 5
    assert verify(str(tmp_path / "view")).ok


def test_the_same_extension_again_does_nothing(out, tmp_path):
    before = digests(out)
    for extend in (False, True):
        outcome = generate(config_of(tmp_path, 20, 30), no_engine, extend=extend)
        assert outcome.summary.shards_made_now == 0
    assert digests(out) == before


def test_without_extend_more_is_refused_and_extend_is_named(out, tmp_path):
    before = digests(out)
    with pytest.raises(ConfigError, match="--extend to add 3 samples to it, or another --out"):
        generate(config_of(tmp_path, 23, 30), no_engine)
    with pytest.raises(ConfigError, match="give that configuration to go on with it, or another"):
        generate(config_of(tmp_path, 4, 30), no_engine)
    with pytest.raises(ConfigError, match="belongs to another configuration"):
        generate(config_of(tmp_path, 15), no_engine)
    assert digests(out) == before


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"synthesis": {"steps": 7, "guidance": 3}}, "guidance: 7.5 -> 3.0; synthesis"),
        ({"synthesis": {"steps": 7, "guidance": 3}}, "steps: 30 -> 7"),
        ({"masks": {"tau": 0.5}}, "masks.tau: 0.55 -> 0.5"),
        ({"plan": {"seed": 4}}, "plan.seed: 0 -> 4"),
        ({"plan": {"batch_size": 4}}, "plan.batch_size: 3 -> 4"),
        ({"classes": "cat,dog"}, "class 1: aeroplane -> cat"),
    ],
)
def test_settings_of_old_samples_are_refused_by_name(out, tmp_path, sections, named):
    before = digests(out)
    with pytest.raises(ConfigError, match="how samples are made stays as it was") as caught:
        generate(config_of(tmp_path, 25, 30, **sections), no_engine, extend=True)
    assert named in str(caught.value)
    assert digests(out) == before


def test_what_cannot_be_extended(out, tmp_path):
    with pytest.raises(ConfigError, match="holds no corpus that could be extended"):
        generate(config_of(tmp_path / "other", 25), no_engine, extend=True)
    with pytest.raises(ConfigError, match="nothing is to be added"):
        generate(config_of(tmp_path, 12, 30), no_engine, extend=True)
    assert plan_of_extension(config_of(tmp_path, 24, 30)).samples == 4


def test_more_classes(tmp_path):
    generate(config_of(tmp_path, None, classes="cat,dog"), DiscEngine)
    before = digests(tmp_path / "out")
    outcome = generate(config_of(tmp_path, None, classes="cat,dog,horse"), DiscEngine, extend=True)
    after = digests(tmp_path / "out")
    assert {name for name in before if after[name] != before[name]} <= OF_THE_WHOLE
    corpus = open_corpus(str(tmp_path / "out"))
    assert corpus.classes.label_names == ("background", "cat", "dog", "horse")
    assert outcome.summary.samples == 7 + 3
    found = verify(str(tmp_path / "out"))
    assert found.ok, found.lines()


def whole_and_broken(tmp_path):
    """A corpus that was extended, and one whose beginning was killed in its second shard."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    generate(config_of(whole, 15), DiscEngine)
    generate(config_of(whole, 22), DiscEngine, extend=True)
    stopped = Command(config_of(broken, 15), broken / "log", faults="write.begun:kill:2")
    assert stopped.end() == -signal.SIGKILL
    return whole, broken


def test_an_unfinished_corpus_is_finished_with_its_own_settings_first(tmp_path):
    whole, broken = whole_and_broken(tmp_path)
    generate(config_of(broken, 22), DiscEngine, extend=True)
    assert digests(broken / "out") == digests(whole / "out")


@pytest.mark.parametrize(
    ("step", "passing"),
    [
        pytest.param("worker.loading", 1, marks=pytest.mark.slow),
        pytest.param("run.plan_put", 1, marks=pytest.mark.slow),
        pytest.param("run.indexes_removed", 1, marks=pytest.mark.slow),
        pytest.param("run.run_file_put", 1, marks=pytest.mark.slow),
        ("tar.sample_added", 10),
        pytest.param("shard.tar_published", 1, marks=pytest.mark.slow),
        pytest.param("shard.metadata_put", 2, marks=pytest.mark.slow),
        pytest.param("shard.record_created", 1, marks=pytest.mark.slow),
        pytest.param("shard.record_created", 2, marks=pytest.mark.slow),
        pytest.param("index.manifest_put", 1, marks=pytest.mark.slow),
        pytest.param("index.wids_put", 1, marks=pytest.mark.slow),
        pytest.param("run.contact_sheet_put", 1, marks=pytest.mark.slow),
    ],
)
def test_kill_9_in_an_extension(grown, tmp_path, step, passing):
    """The same command again ends in the bytes of an extension that nothing disturbed."""
    generate(config_of(tmp_path, 5), DiscEngine)
    before = digests(tmp_path / "out")
    config = config_of(tmp_path, 15)
    command = Command(config, tmp_path / "log", faults=f"{step}:kill:{passing}", extend=True)
    assert command.end() == -signal.SIGKILL, command.text
    now = digests(tmp_path / "out")
    shards = {n for n in before if n not in OF_THE_WHOLE}
    assert {name for name in shards if now.get(name) != before[name]} == set()
    again = Command(config, tmp_path / "again", extend=True)
    assert again.end() == 0, again.text
    assert digests(tmp_path / "out") == grown[0][1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_of_every_attempt_at_an_extension_one_file_later(grown, tmp_path):
    generate(config_of(tmp_path, 5), DiscEngine)
    config, deaths = config_of(tmp_path, 15), 0
    while True:
        faults = f"local.renamed:kill:{deaths + 1}"
        if (code := Command(config, tmp_path / "log", faults=faults, extend=True).end()) == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
    assert deaths > 3
    assert digests(tmp_path / "out") == grown[0][1]


@pytest.mark.parametrize(
    "step", [pytest.param("run.plan_put", marks=pytest.mark.slow), "run.run_file_put"]
)
def test_an_extension_that_made_nothing_gives_way(grown, tmp_path, step):
    config = config_of(tmp_path, 5)
    generate(config, DiscEngine)
    for resumed, extend, state in ((config, False, 0), (config_of(tmp_path, 15), True, 1)):
        mistaken = config_of(tmp_path, 22)
        command = Command(mistaken, tmp_path / "log", faults=f"{step}:kill", extend=True)
        assert command.end() == -signal.SIGKILL, command.text
        generate(resumed, DiscEngine, extend=extend)
        assert digests(tmp_path / "out") == grown[0][state]


@pytest.mark.slow
def test_kill_9_while_an_extension_gives_way(grown, tmp_path):
    generate(config_of(tmp_path, 5), DiscEngine)
    steps = (("run.run_file_put", 22), ("run.generation_removed", 15))
    for step, limit in steps:
        config = config_of(tmp_path, limit)
        command = Command(config, tmp_path / "log", faults=f"{step}:kill", extend=True)
        assert command.end() == -signal.SIGKILL, command.text
    generate(config_of(tmp_path, 15), DiscEngine, extend=True)
    assert digests(tmp_path / "out") == grown[0][1]


@pytest.mark.slow
def test_in_a_bucket(grown, tmp_path, bucket):
    """The same files with the same bytes, and the same command goes on there."""
    config = config_of(tmp_path, 5).model_copy(update={"out": bucket.url})
    generate(config, DiscEngine)
    more = config_of(tmp_path, 15).model_copy(update={"out": bucket.url})
    command = Command(more, tmp_path / "log", faults="shard.tar_published:kill", extend=True)
    assert command.end() == -signal.SIGKILL, command.text
    generate(more, DiscEngine, extend=True)
    store = open_store(bucket.url)
    found = {
        name: hashlib.sha256(store.read(name)).hexdigest()
        for name in store.list()
        if not name.startswith("logs/")
    }
    assert found == grown[0][1]
    assert verify(bucket.url).ok


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_on_ray_two_generations_are_made_one_after_the_other(tmp_path, ray_session):
    whole, broken = whole_and_broken(tmp_path)
    config = config_of(broken, 22)
    runtime = config.runtime.model_copy(update={"runner": "ray", "workers": 2})
    config = config.model_copy(update={"runtime": runtime})
    generate(config, DiscEngine, extend=True)
    assert digests(broken / "out") == digests(whole / "out")


def test_an_extension_stopped_before_it_was_one_is_no_damage(tmp_path):
    generate(config_of(tmp_path, 5), DiscEngine)
    with open_run(config_of(tmp_path, 15), extend=True) as run:
        from ovamgen.run.files import write_plan_file

        write_plan_file(run.store, run.plan.generations[1], 1)
    found = verify(str(tmp_path / "out"))
    assert found.ok, found.lines()
    assert any("extension that was stopped" in note for note in found.notes)
    assert run_status(str(tmp_path / "out")).state == "complete"


def test_an_extension_under_way_is_an_unfinished_run(tmp_path):
    generate(config_of(tmp_path, 5), DiscEngine)
    config = config_of(tmp_path, 15)
    command = Command(config, tmp_path / "log", faults="shard.record_created:kill", extend=True)
    assert command.end() == -signal.SIGKILL
    assert run_status(config.out).state == "partial"
    found = verify(config.out)
    assert (found.state, found.findings, found.shards) == ("unfinished", (), 3)
    with pytest.raises(ConfigError, match="is not finished"):
        open_corpus(config.out)
    assert open_corpus(config.out, partial=True).samples == 13
    # without --extend the same command goes on, and so does repair
    repair(config.out, overrides=({"runtime": LOCAL},), factory=DiscEngine)
    assert verify(config.out).ok


@pytest.mark.parametrize(
    "damaged",
    [
        ("train-000000.tar", "train-000002.tar", "train-000003.tar"),
        ("generations/000001/plan.parquet", "manifests/000001.json"),
        ("generations/000001/run.yaml", "generations/000002/plan.parquet", "plan.parquet"),
        ("run.yaml", "manifest.json"),
    ],
)
@pytest.mark.parametrize("how", [pytest.param("gone", marks=pytest.mark.slow), "damaged"])
def test_repair_brings_every_generation_back(grown, out, damaged, how):
    for name in damaged:
        (out / name).unlink()
        if how == "damaged":
            (out / name).write_bytes(b"\0" * 100)
    if "run.yaml" in damaged:
        # nothing else holds what it says
        (out / "run.yaml").write_bytes((grown[1] / "run.yaml").read_bytes())
    assert not verify(str(out)).ok
    done = repair(str(out), overrides=({"runtime": LOCAL},), factory=DiscEngine)
    assert done.left.ok, done.lines()
    assert digests(out) == grown[0][2]


def test_damage_to_what_a_manifest_lists_shows(out):
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["generations"][1]["shards"] = 3
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (out / "manifest.json").write_text(text)
    [finding] = verify(str(out)).findings
    assert finding.file == "manifest.json"
    assert "its generations are not those of its shards" in finding.found


def test_generations_under_each_others_names_show(out):
    runs = [out / f"generations/00000{n}/run.yaml" for n in (1, 2)]
    one, two = (path.read_bytes() for path in runs)
    runs[0].write_bytes(two)
    runs[1].write_bytes(one)
    files = {finding.file for finding in verify(str(out)).findings}
    assert {"generations/000001/run.yaml", "generations/000002/run.yaml"} <= files
    with pytest.raises(ConfigError, match="must be of generation 1"):
        read_run_files(open_store(str(out)))
