"""The books of a run and the files under ``logs/``: what is counted, when it is written."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from ovamgen.console.progress import RunProgress
from ovamgen.errors import OvamgenError, ShardError
from ovamgen.generation import generate
from ovamgen.records import SampleFailure
from ovamgen.run.drain import Interrupted
from ovamgen.run.journal import RunJournal, kind_of
from ovamgen.run.local import generate_local
from ovamgen.run.run import open_run
from ovamgen.run.timing import WORK_STAGES, StageClock
from ovamgen.shards.output_files import PROGRESS_NAME, times_name
from ovamgen.status import heartbeat
from ovamgen.status.heartbeat import keep_logs
from ovamgen.status.logs import MAX_BYTES, read_progress, read_times
from ovamgen.storage.local import LocalStore
from ovamgen.storage.store import open_store
from tests.fakes import DiscEngine
from tests.runs import PROMPTS, digests, make, run_config


def failure(key, reason, stage="masks"):
    return SampleFailure(key=key, stage=stage, reason=reason)


class Clock:
    """A monotonic clock that goes where it is told."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("ovamgen.run.journal.time", clock)
    return clock


def test_what_is_open_and_since_when(clock):
    journal = RunJournal()
    journal.worker_ready("a", {"loading": 2.0})
    journal.worker_ready("b", {"loading": 3.0})
    journal.shard_begun(0, 8)
    clock.now += 10
    journal.shard_begun(1, 8)
    journal.batch_given("a")
    journal.batch_given("a")
    clock.now += 5
    journal.ended(0, made=3, failures=[failure("1", "ValueError: bad 1")])
    work = journal.open_work()
    assert work.shards == [(0, 15.0, 8, 4), (1, 5.0, 8, 0)]
    assert work.workers == [("a", 5.0, 2), ("b", 15.0, 0)]
    assert (work.shard_seconds, work.batch_seconds) == (None, None)
    journal.batch_ended("a", {"synthesis": 4.0})
    journal.shard_finished(0)
    work = journal.open_work()
    assert work.shards == [(1, 5.0, 8, 0)]
    assert work.workers == [("a", 0.0, 1), ("b", 15.0, 0)]
    assert (work.shard_seconds, work.batch_seconds) == (15.0, 4.0)
    totals = journal.totals()
    assert totals.seconds == {"loading": 5.0, "synthesis": 4.0}
    assert totals.failures == {("masks", "ValueError"): 1}
    assert (totals.made, totals.failed, totals.shards, totals.workers_ready) == (3, 1, 1, 2)


def test_a_lost_shard_takes_its_counts_back(clock):
    journal = RunJournal()
    journal.shard_begun(4, 8)
    journal.ended(4, made=5, failures=[failure("1", "x")])
    journal.shard_lost(4, 5, 1)
    assert journal.open_work().shards == [(4, 0.0, 8, 0)]
    totals = journal.totals()
    assert (totals.made, totals.failed, totals.shard_restarts) == (0, 0, 1)


def test_the_rate_is_of_the_last_minutes(clock):
    journal = RunJournal()
    assert journal.rate() == 0.0
    for _ in range(30):
        clock.now += 10
        journal.ended(0, made=20)
        assert journal.rate() == pytest.approx(2.0)
    for _ in range(40):
        clock.now += 10
        rate = journal.rate()
    assert rate == 0.0, "a run that stands still is not averaged over its better days"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("RuntimeError: bad luck with 00000100002", "RuntimeError"),
        ("the safety checker flagged the image", "other"),
        ("", "other"),
        ("torch.OutOfMemoryError: x", "other"),
    ],
)
def test_kinds_of_failures_are_few(reason, kind):
    assert kind_of(reason) == kind


def test_the_clock_counts_blocks_that_fail():
    clock = StageClock()
    with pytest.raises(ValueError, match="x"), clock.measure("masks"):
        raise ValueError("x")
    assert clock.seconds["masks"] >= 0
    assert list(clock.take()) == ["masks"]
    assert clock.seconds == {}


def test_a_finished_run_has_told_its_times_and_no_shard_knows_them(tmp_path):
    config = run_config(tmp_path, runtime={"runner": "local"})
    generate(config, DiscEngine)
    store = open_store(config.out)
    (times,), illegible = read_times(store)
    assert (times.state, times.images, times.failed, times.shards) == ("complete", 22, 0, 3)
    assert (times.runner, times.device, times.workers) == ("local", "cpu", 1)
    assert set(times.seconds) == set(WORK_STAGES)
    assert 0 < sum(times.seconds.values()) <= times.wall_seconds
    assert illegible == 0
    live = read_progress(store)
    assert (live.state, live.shards_done, live.shards_open, live.error) == ("complete", 3, [], "")
    other = run_config(tmp_path / "other", runtime={"runner": "local"})
    (tmp_path / "other").mkdir()
    make(other, generate_local, DiscEngine)
    plain = digests(other.out)
    # the sheet is a part of the whole command, which `make` is not
    assert {n: d for n, d in digests(config.out).items() if n != "contact_sheet.png"} == plain
    for path in (tmp_path / "out").glob("*.json"):
        assert "logs" not in path.read_text()


def test_a_run_that_has_nothing_to_do_leaves_no_further_log(tmp_path):
    config = run_config(tmp_path, runtime={"runner": "local"})
    generate(config, DiscEngine)
    before = (tmp_path / "out" / PROGRESS_NAME).read_bytes()
    generate(config, DiscEngine)
    assert sorted(p.name for p in (tmp_path / "out" / "logs").iterdir()) == [
        "progress.json",
        "time-000001.json",
    ]
    assert (tmp_path / "out" / PROGRESS_NAME).read_bytes() == before


def test_a_run_that_never_loads_leaves_no_trace(tmp_path):
    config = run_config(tmp_path, runtime={"runner": "local"})
    with pytest.raises(OvamgenError, match="cannot be read"):
        generate(config, partial(DiscEngine, load="refuse"))
    assert not (tmp_path / "out").exists()


def test_a_failed_run_says_why_and_the_next_one_counts_for_itself(tmp_path):
    texts = [f"{PROMPTS[i % 7]} with poison" for i in range(22)]
    config = run_config(tmp_path, texts=texts, runtime={"runner": "local"})
    with pytest.raises(OvamgenError, match="all failed"):
        generate(config, DiscEngine)
    store = open_store(config.out)
    live = read_progress(store)
    assert live.state == "failed"
    assert "the first 8 samples all failed" in live.error
    with pytest.raises(OvamgenError, match="all failed"):
        generate(config, DiscEngine)
    assert [times.state for times in read_times(store)[0]] == ["failed", "failed"]
    assert store.list("logs/time-") == [times_name(1), times_name(2)]


def test_an_interrupted_run_says_that_it_was_stopped(tmp_path):
    config = run_config(tmp_path, runtime={"runner": "local"})

    def stopped():
        with open_run(config) as run, keep_logs(run):
            run.journal.worker_ready("a", {})
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        stopped()
    live = read_progress(open_store(config.out))
    assert (live.state, live.error) == ("stopped", "Interrupted: stopped by SIGTERM")


def test_the_live_log_is_written_beside_the_work(tmp_path):
    config = run_config(tmp_path, runtime={"runner": "local"})
    store, seen = open_store(config.out), []
    with open_run(config) as run:
        run.confirm_model(DiscEngine(config).info, "")
        with keep_logs(run, every_seconds=0.05):
            run.journal.worker_ready("a", {"loading": 1.0})
            run.journal.shard_begun(0, 8)
            run.journal.ended(0, made=3)
            deadline = time.monotonic() + 60
            while len(seen) < 2 and time.monotonic() < deadline:
                live = read_progress(store)
                if live is not None and live.images == 3 and live.sequence not in seen:
                    seen.append(live.sequence)
                time.sleep(0.01)
            assert live.state == "running"
            assert live.process == store.holder()
            (shard,) = live.shards_open
            assert (shard.shard, shard.samples, shard.ended) == (0, 8, 3)
            assert (live.samples_planned, live.shards_planned, live.shards_done) == (22, 3, 0)
            assert live.seconds_left is None or live.seconds_left >= 0
    assert seen == sorted(seen)
    assert read_progress(store).state == "stopped", "shards are missing, nothing went wrong"


def test_logs_that_cannot_be_written_cost_no_run(tmp_path, caplog):
    config = run_config(tmp_path, runtime={"runner": "local"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "logs").write_text("a file where the folder would be")
    generate(config, DiscEngine)
    assert (tmp_path / "out" / "manifest.json").exists()
    (warning,) = [r for r in caplog.records if r.name == heartbeat.__name__]
    assert "the run goes on, but its logs cannot be written" in warning.getMessage()


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"schema_version": 2}', b"\xff\xfe", b"[" * 100_000],
)
def test_damaged_logs_are_passed_over(tmp_path, data):
    store = LocalStore(tmp_path)
    store.put(PROGRESS_NAME, data)
    store.put(times_name(1), data)
    assert read_progress(store) is None
    assert read_times(store) == ([], 1)


def test_values_that_no_clock_gives_are_refused(tmp_path):
    config = run_config(tmp_path, runtime={"runner": "local"})
    generate(config, DiscEngine)
    store = open_store(config.out)
    good = json.loads(store.read(times_name(1)))
    for change in ({"wall_seconds": -1.0}, {"seconds": {"masks": float("nan")}}, {"images": -1}):
        store.put(times_name(2), json.dumps(good | change).encode())
        assert read_times(store)[1] == 1, change
    store.put(times_name(2), json.dumps(good | {"something": "newer"}).encode())
    assert read_times(store)[1] == 0
    store.put(times_name(2), b" " * (MAX_BYTES + 1))
    assert read_times(store)[1] == 1


def test_a_log_that_vanishes_while_it_is_read_is_none(tmp_path):
    class Vanishing(LocalStore):
        def read(self, name, most_bytes):
            raise ShardError(f"{name} is gone")

    store = Vanishing(tmp_path)
    store.put(PROGRESS_NAME, b"{}")
    assert read_progress(store) is None


KILLED = """
import os, signal, sys
from functools import partial
from pathlib import Path
sys.path.insert(0, {repository!r})
from ovamgen.status import heartbeat
from ovamgen.generation import generate
from tests.fakes import DiscEngine
from tests.runs import CAPTIONS, captions_file
from ovamgen.config import build_config
heartbeat.EVERY_SECONDS = 0.05
config = build_config({{
    "plan": {{"captions": {captions!r}, "shard_size": 8, "batch_size": 2}},
    "model": {{"id": "mini"}}, "out": {out!r}, "runtime": {{"runner": "local"}},
}})
generate(config, partial(DiscEngine, batch_seconds=0.2))
"""


def test_a_killed_run_has_left_its_times_and_the_next_adds_to_them(tmp_path, repository):
    from tests.runs import captions_file

    captions = captions_file(tmp_path / "captions.csv", [PROMPTS[i % 7] for i in range(32)])
    out = tmp_path / "out"
    script = KILLED.format(repository=str(repository), captions=str(captions), out=str(out))
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    store = open_store(str(out))
    deadline = time.monotonic() + 90
    while (live := read_progress(store)) is None or not live.images:
        assert time.monotonic() < deadline
        assert child.poll() is None
        threading.Event().wait(0.02)
    child.kill()
    child.wait()
    live = read_progress(store)
    assert live.state == "running", "nobody was left to say otherwise"
    assert store.holder() is None
    from ovamgen.config import build_config
    from ovamgen.status.status import run_status

    status = run_status(str(out))
    assert (status.activity, status.running, status.process) == ("dead", False, live.process)
    assert any("has died" in line for line in status.lines())
    config = build_config(
        {
            "plan": {"captions": str(captions), "shard_size": 8, "batch_size": 2},
            "model": {"id": "mini"},
            "out": str(out),
            "runtime": {"runner": "local"},
        }
    )
    generate(config, DiscEngine)
    first, second = read_times(store)[0]
    assert (first.state, second.state) == ("running", "complete")
    assert first.images + second.images >= 32
    assert run_status(str(out)).activity == "complete"


def test_progress_shows_what_became_of_the_images(tmp_path, capsys):
    texts = [PROMPTS[i % 7] for i in range(12)]
    texts[3] = "a cat with poison"
    config = run_config(tmp_path, texts=texts)
    with open_run(config) as run:
        progress = RunProgress(total_samples=12, done_samples=0, total_shards=2)
        generate_local(run, progress, DiscEngine)
        totals = run.journal.totals()
    assert (totals.made, totals.failed) == (11, 1)
    assert totals.failures == {("synthesis", "RuntimeError"): 1}
    assert progress.line().startswith("12/12 samples, 1 failed, 2 of 2 shards written")
