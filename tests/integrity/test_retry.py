"""Failed samples are tried again in new shards, with other seeds, and say what they are."""

import shutil
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ovamgen import fault_points
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.reannotate import reannotate
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError
from ovamgen.generation import generate
from ovamgen.integrity import retry
from ovamgen.integrity.repair import repair
from ovamgen.integrity.replay import replay
from ovamgen.integrity.retry import retry_failed
from ovamgen.integrity.verify import verify
from ovamgen.records import WORKER_DIED, SampleFailure
from ovamgen.report.write import write_report
from ovamgen.run.files import read_plan
from ovamgen.shards.output_files import INDEXES, metadata_name
from ovamgen.shards.schema import metadata_schema
from ovamgen.status.status import run_status
from ovamgen.storage.store import open_store
from tests.fakes import DiscEngine
from tests.faults.command import SERVER
from tests.integrity.conftest import settings
from tests.runs import digests, run_config

LOCAL = ({"runtime": {"runner": "local"}},)
OF_THE_WHOLE = {*INDEXES, "contact_sheet.png"}
NEW = 3
"""Index of the shard that the first attempts are in."""


class Unlucky(DiscEngine):
    """Draws what has poison in it once it is tried for the n-th time, counted from 0."""

    def __init__(self, config, *, attempts):
        super().__init__(config)
        self._attempts = attempts

    def synthesise(self, specs):
        for spec in specs:
            tried = spec.retry.attempt if spec.retry else 0
            if "poison" in spec.prompt and tried < self._attempts:
                raise RuntimeError(f"bad luck with {spec.key}")
        drawn = [replace(spec, prompt=spec.prompt.replace("poison", "milk")) for spec in specs]
        return replace(super().synthesise(drawn), specs=tuple(specs))


def _retry(out, attempts=1):
    return retry_failed(str(out), overrides=LOCAL, factory=partial(Unlucky, attempts=attempts))


def _rows(out, shard):
    return pq.read_table(out / metadata_name(shard)).to_pylist()


@pytest.fixture(scope="session")
def retried(tmp_path_factory, pristine):
    """The corpus with its failed sample made in another attempt, and what was told."""
    out = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("retried") / "out"))
    return out, _retry(out)


def test_a_failed_sample_is_made_in_a_new_shard(retried, pristine):
    out, told = retried
    assert (told.tried, told.made, told.failures) == (1, 1, {})
    assert told.left.ok
    before, after = digests(pristine), digests(out)
    assert {name for name in before if after[name] != before[name]} <= OF_THE_WHOLE
    rows = [row for shard in range(NEW) for row in _rows(out, shard)]
    [failed] = [row for row in rows if row["status"] == "failed"]
    [row] = _rows(out, NEW)
    assert (row["status"], row["key"]) == ("ok", "00000300000")
    assert (row["retry_of"], row["retry_of_seed"], row["attempt"]) == (
        failed["key"],
        failed["seed"],
        1,
    )
    assert row["seed"] != failed["seed"]
    assert row["caption"] == failed["caption"]
    table = pq.read_table(out / metadata_name(NEW))
    assert table.schema.equals(metadata_schema({"retry_of"}))
    assert "retry_of" not in pq.read_schema(out / metadata_name(0)).names


def test_the_second_time_there_is_nothing_to_try(retried):
    out, _ = retried
    before = digests(out)
    again = retry_failed(str(out), overrides=LOCAL, factory=_no_engine)
    assert (again.tried, again.made) == (0, 0)
    assert again.lines() == [
        f"{out}: nothing to repair",
        f"{out}: no sample is left that could be tried again",
    ]
    assert digests(out) == before


def test_the_corpus_is_no_longer_incomplete(retried, pristine, tmp_path):
    out, _ = retried
    config = settings(tmp_path)
    for place, missing in ((pristine, 1), (out, 0)):
        copy = Path(shutil.copytree(place, tmp_path / "out"))
        outcome = generate(config, _no_engine)
        assert outcome.missing == missing
        shutil.rmtree(copy)
    outcome.check_complete()
    assert "22 made, 1 failed, 1 of them tried again" in outcome.lines()[1]
    status = run_status(str(out))
    assert (status.state, status.failures, status.tried_again) == ("complete", {}, 1)
    assert status.samples_failed == 1


def test_all_that_reads_a_corpus_knows_retries(retried, tmp_path):
    out, _ = retried
    done = replay(str(out), "00000300000", factory=partial(Unlucky, attempts=1))
    assert done.members_equal, done.lines()
    assert open_corpus(str(out)).samples == 22
    assert write_report(str(out), str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "failed ones tried again" in page
    assert "in 1 round (repair --failed)" in page
    assert "added later" not in page
    cats = SelectionSettings(drop_uniform=False, area_quantiles=None, classes=("cat",))
    select(str(out), str(tmp_path / "cats"), cats, copy=True)
    assert verify(str(tmp_path / "cats")).ok
    assert _rows(tmp_path / "cats", NEW)[0]["attempt"] == 1
    reannotate(str(out), str(tmp_path / "anew"), overrides={"tau": 0.4})
    found = verify(str(tmp_path / "anew"))
    assert found.ok, found.lines()
    assert _rows(tmp_path / "anew", NEW)[0]["attempt"] == 1


def test_what_fails_again_is_tried_again_with_a_third_seed(out):
    first = _retry(out, attempts=2)
    assert (first.tried, first.made) == (1, 0)
    assert first.failures == {"synthesis: RuntimeError: bad luck with 00000300000": 1}
    assert first.left.ok
    second = _retry(out, attempts=2)
    assert (second.tried, second.made) == (1, 1)
    [one], [two] = _rows(out, NEW), _rows(out, NEW + 1)
    assert (one["status"], two["status"]) == ("failed", "ok")
    assert (two["retry_of"], two["retry_of_seed"], two["attempt"]) == (
        one["retry_of"],
        one["seed"],
        2,
    )
    assert len({one["seed"], two["seed"], one["retry_of_seed"]}) == 3
    assert run_status(str(out)).tried_again == 2
    before = digests(out)
    assert _retry(out).tried == 0
    assert digests(out) == before


def test_an_extension_of_a_corpus_with_retries_counts_a_sample_once(retried, tmp_path):
    out = Path(shutil.copytree(retried[0], tmp_path / "out"))
    config = settings(tmp_path, plan={"limit": 24})
    with pytest.raises(ConfigError, match="nothing is to be added"):
        generate(config, _no_engine, extend=True)
    texts = [*(f"a cat on a boat {n}" for n in range(4))]
    more = run_config(
        tmp_path,
        texts=texts,
        runtime={"runner": "local"},
        shards={"heatmaps": True},
        plan={"limit": 24},
    )
    outcome = generate(more, DiscEngine, extend=True)
    assert outcome.summary.shards_made_now == 1
    plan = read_plan(open_store(str(out)))
    assert [g.samples for g in plan.generations] == [22, 1, 2]
    assert verify(str(out)).ok


def _attempt(url, faults):
    fault_points.reach = fault_points.reaching(faults)
    _retry(url)
    sys.exit(0)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("run.plan_put", marks=pytest.mark.slow),
        pytest.param("run.indexes_removed", marks=pytest.mark.slow),
        pytest.param("run.run_file_put", marks=pytest.mark.slow),
        pytest.param("shard.tar_published", marks=pytest.mark.slow),
        "shard.metadata_put",
        pytest.param("index.manifest_put", marks=pytest.mark.slow),
    ],
)
def test_kill_9_while_samples_are_tried_again(retried, out, step):
    process = SERVER.Process(target=_attempt, args=(str(out), f"{step}:kill"))
    process.start()
    process.join(110)
    assert process.exitcode == -signal.SIGKILL
    _retry(out)
    assert digests(out) == digests(retried[0])


@pytest.mark.parametrize("number", [0, 1])
def test_the_plan_of_retries_is_made_again(retried, tmp_path, number):
    out = Path(shutil.copytree(retried[0], tmp_path / "out"))
    name = ["plan.parquet", "generations/000001/plan.parquet"][number]
    (out / name).unlink()
    (out / "train-000003.tar").unlink()
    done = repair(str(out), overrides=LOCAL, factory=partial(Unlucky, attempts=1))
    assert done.left.ok, done.lines()
    assert digests(out) == digests(retried[0])


def test_an_unfinished_run_is_finished_before(out, retried):
    for name in ("manifest.json", "manifests/000002.json", "train-000002.tar"):
        (out / name).unlink()
    told = _retry(out)
    assert (told.repaired.shards_made, told.made) == ((2,), 1)
    assert digests(out) == digests(retried[0])


def test_what_ends_a_process_is_not_tried_in_this_one(out, monkeypatch):
    # no such failure can be had without Ray, whose workers die of it
    found = retry.failed_samples

    def deadly(*arguments):
        reason = f"{WORKER_DIED} 3 times while making this sample"
        return [
            (spec, again, SampleFailure(key=failure.key, stage="synthesis", reason=reason))
            for spec, again, failure in found(*arguments)
        ]

    monkeypatch.setattr(retry, "failed_samples", deadly)
    before = digests(out)
    with pytest.raises(ConfigError, match=r"--set runtime\.runner=ray"):
        _retry(out)
    assert digests(out) == before


def test_only_runs_have_samples_to_try(retried, tmp_path):
    made = tmp_path / "copy"
    select(str(retried[0]), str(made), SelectionSettings(area_quantiles=None), copy=True)
    with pytest.raises(ConfigError, match="--failed is for the samples of runs"):
        _retry(made)


def _no_engine(config):
    raise AssertionError("nothing needs to be drawn")
