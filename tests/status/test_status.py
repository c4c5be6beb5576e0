"""What `ovamgen status` says of a run that goes on, that died, that is slow; how it is watched."""

import datetime
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from functools import partial

import pytest

from ovamgen.errors import ConfigError, ShardError
from ovamgen.generation import generate
from ovamgen.run.local import generate_local
from ovamgen.run.run import open_run
from ovamgen.shards.output_files import PROGRESS_NAME, metadata_name, record_name
from ovamgen.shards.shard_record import read_records
from ovamgen.status.activity import stragglers_of, understand
from ovamgen.status.logs import LiveProgress, OpenShardState, WorkerState
from ovamgen.status.status import StatusReader, run_status
from ovamgen.status.watch import watch
from tests.fakes import DiscEngine
from tests.faults.command import Command
from tests.runs import PROMPTS, make, run_config

NOON = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


def live(**changes):
    usual = {
        "process": "process 7 on node1",
        "state": "running",
        "sequence": 3,
        "written_at": NOON.isoformat(),
        "every_seconds": 10.0,
        "wall_seconds": 500.0,
        "samples_planned": 22,
        "samples_before": 0,
        "images": 9,
        "failed": 1,
        "shards_planned": 3,
        "shards_done": 1,
        "images_per_second": 2.0,
        "seconds_left": 6.0,
        "workers_wanted": 2,
        "workers": [],
        "worker_restarts": 0,
        "shard_restarts": 0,
        "in_flight_bytes": 0,
        "shard_seconds": None,
        "batch_seconds": None,
        "shards_open": [],
    }
    return LiveProgress(**(usual | changes))


def after(seconds):
    return NOON + datetime.timedelta(seconds=seconds)


HOLDER = "process 7 on node1"


@pytest.mark.parametrize(
    ("holder", "log", "seconds", "activity"),
    [
        (None, None, 0, "none"),
        (HOLDER, None, 0, "loading"),
        (HOLDER, live(), 12, "running"),
        (HOLDER, live(), 61, "silent"),
        (HOLDER, live(every_seconds=60.0), 300, "running"),
        ("process 8 on node1", live(), 5, "loading"),
        ("process 8 on node1", live(state="complete"), 5, "loading"),
        (None, live(), 5, "dead"),
        (None, live(state="stopped"), 5, "stopped"),
        (None, live(state="failed"), 5, "failed"),
        (None, live(state="complete"), 5, "complete"),
        (HOLDER, live(state="complete"), 5, "complete"),
    ],
)
def test_lock_and_log_together_say_what_goes_on(holder, log, seconds, activity):
    assert understand(holder, log, after(seconds)).activity == activity


@pytest.mark.parametrize("state", ["running", "stopped", "failed", "complete"])
def test_nothing_that_is_complete_has_died(state):
    log = live(state=state)
    assert understand(None, log, after(5), is_complete=True).activity == "complete"
    assert understand("process 8 on node1", log, after(5), is_complete=True).activity == "loading"


@pytest.mark.parametrize("written", [after(3600).isoformat(), "yesterday", "2026-11-22T12:00:00"])
def test_a_clock_that_was_set_back_silences_nobody(written):
    found = understand(HOLDER, live(written_at=written), NOON)
    assert (found.activity, found.heard_seconds_ago) == ("running", None)


def test_shards_open_for_much_longer_than_others_are_named():
    shards = [
        OpenShardState(shard=4, seconds=400.0, samples=1000, ended=416),
        OpenShardState(shard=9, seconds=90.0, samples=1000, ended=10),
    ]
    assert stragglers_of(live(shard_seconds=100.0), shards) == (
        "shard 4 has been open for 0:06:40, 4 times the median (416 of 1000 samples)",
    )
    assert stragglers_of(live(shard_seconds=None), shards) == ()
    assert stragglers_of(live(shard_seconds=0.01), shards[1:]) != (), "90 s for a usual 10 ms"
    quick = [OpenShardState(shard=1, seconds=59.0, samples=8, ended=0)]
    assert stragglers_of(live(shard_seconds=0.01), quick) == (), "under a minute nothing is slow"


def test_workers_that_do_not_answer_are_named():
    workers = [
        WorkerState(name="process 8 on node2", batches=2, seconds=300.0),
        WorkerState(name="process 9 on node2", batches=0, seconds=3000.0),
        WorkerState(name="process 10 on node2", batches=1, seconds=40.0),
    ]
    found = live(workers=workers, batch_seconds=10.0)
    assert stragglers_of(found, []) == (
        "the worker in process 8 on node2 has not answered for 0:05:00 (a batch takes 10.0 s)",
    )
    assert stragglers_of(live(workers=workers, batch_seconds=None), []) == ()


def test_an_interrupted_run_that_holds_its_output(tmp_path):
    config = run_config(tmp_path, runtime={"runner": "local"})
    with open_run(config) as run:
        run.confirm_model(DiscEngine(config).info, "1" * 64)
        assert run_status(config.out).activity == "loading"
        now = datetime.datetime.now(datetime.UTC).isoformat()
        shard = OpenShardState(shard=1, seconds=900.0, samples=8, ended=5)
        written = OpenShardState(shard=0, seconds=900.0, samples=8, ended=8)
        told = live(
            process=run.store.holder(),
            written_at=now,
            shard_seconds=100.0,
            shards_open=[shard, written],
            worker_restarts=2,
            workers=[WorkerState(name="a", batches=0, seconds=1.0)],
        )
        run.store.put(PROGRESS_NAME, told.to_bytes())
        make_first_shard(run, config)
        status = run_status(config.out)
        assert (status.state, status.running, status.activity) == ("partial", True, "running")
        assert (status.images_per_second, status.seconds_left) == (2.0, 6.0)
        assert status.samples_in_open_shards == 5, "the first shard has been written since"
        assert len(status.stragglers) == 1
        text = "\n".join(status.lines())
        assert "a run is going on" in text
        assert "1 of 2 workers ready, 5 samples in open shards, 2 restarts" in text
        assert "2.00 images/s, 0:00:06 left" in text
        assert "  slow     shard 1 has been open for 0:15:00" in text
        assert "goes on with it" not in text
        json.dumps(asdict(status))
        assert status.line() == (
            "running: 1 of 3 shards, 13/22 samples, 2.00 images/s, 0:00:06 left, 1 slow"
        )
    dead = run_status(config.out)
    assert (dead.activity, dead.images_per_second, dead.stragglers) == ("dead", None, ())
    assert "the command that began this run goes on with it" in "\n".join(dead.lines())


def make_first_shard(run, config):
    from ovamgen.run.shard import make_shard, sample_context

    engine = DiscEngine(config)
    context = sample_context(config, run.fingerprint, engine)
    run.finished(make_shard(run.pending[0], engine, context, run.store))


def test_what_cannot_change_is_read_once(tmp_path):
    texts = [PROMPTS[i % 7] for i in range(22)]
    texts[3] = "a cat with poison"
    config = run_config(tmp_path, texts=texts)
    make(config, generate_local, DiscEngine)
    reader, read = StatusReader(config.out), []
    original = type(reader.store).open

    class Watched(type(reader.store)):
        def open(self, name):
            read.append(name)
            return original(self, name)

    reader.store = Watched(config.out)
    first = reader.read()
    assert (first.samples_failed, first.state) == (1, "complete")
    failed = [r.shard_index for r in read_records(reader.store).values() if r.failed]
    assert [name for name in read if name.startswith("metadata/")] == [metadata_name(*failed)]
    read.clear()
    assert reader.read() == first
    assert sorted(read) == [PROGRESS_NAME, "run.yaml"]
    reader.store.delete(record_name(2))
    assert reader.read().shards_done == 2


def test_watching_ends_with_the_run_and_prints_a_line_a_look(tmp_path, capsys):
    config = run_config(tmp_path, runtime={"runner": "local"})
    with open_run(config) as run:
        run.confirm_model(DiscEngine(config).info, "1" * 64)
        make_first_shard(run, config)
    looks = []

    def work(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            generate(config, DiscEngine)

    last = watch(config.out, every_seconds=7.0, as_json=False, sleep=work)
    assert last.state == "complete"
    assert looks == [7.0, 7.0]
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "partial: 1 of 3 shards, 8/22 samples",
        "partial: 1 of 3 shards, 8/22 samples",
        "complete: 3 of 3 shards, 22/22 samples",
    ]
    watch(config.out, every_seconds=7.0, as_json=True, sleep=work)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["activity"] == "complete"


def test_watching_outlives_a_store_that_fails_for_a_while(tmp_path, capsys, monkeypatch):
    config = run_config(tmp_path)
    make(config, generate_local, DiscEngine)
    original, answers = StatusReader.read, ["partial", ShardError("the bucket is away"), "now"]

    def read(self):
        answer = answers.pop(0)
        if isinstance(answer, ShardError):
            raise answer
        found = original(self)
        if answer == "partial":
            object.__setattr__(found, "state", "partial")
        return found

    monkeypatch.setattr(StatusReader, "read", read)
    watch(config.out, every_seconds=0.1, as_json=False, sleep=lambda seconds: None)
    told = capsys.readouterr()
    assert "the bucket is away" in told.err
    assert len(told.out.splitlines()) == 3


def test_an_output_that_is_not_there_yet_is_waited_for(tmp_path, capsys):
    """A cluster takes minutes to begin what was just submitted."""
    config = run_config(tmp_path, runtime={"runner": "local"})
    looks = []

    def work(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            generate(config, DiscEngine)

    assert watch(config.out, every_seconds=3.0, as_json=False, sleep=work).state == "complete"
    told = capsys.readouterr()
    assert looks == [3.0, 3.0]
    assert told.out == "complete: 3 of 3 shards, 22/22 samples\n"
    (waiting,) = [line for line in told.err.splitlines() if "waiting" in line]
    assert waiting == (
        f"waiting for a run that writes to {config.out}: there is no plan yet (Ctrl-C ends the "
        "waiting)"
    )
    with pytest.raises(ConfigError, match="holds no plan"):
        run_status(str(tmp_path / "none"))


def test_a_plan_that_is_replaced_is_read_again(tmp_path):
    from ovamgen.run.run import write_plan

    config = run_config(tmp_path, plan={"limit": 5})
    write_plan(config)
    reader = StatusReader(config.out)
    assert reader.read().samples_planned == 5
    write_plan(run_config(tmp_path, plan={"limit": 9}))
    assert reader.read().samples_planned == 9


def test_a_run_that_was_stopped_behind_its_last_shard_is_complete_when_it_is_run_again(tmp_path):
    config = run_config(tmp_path, runtime={"runner": "local"})
    out = tmp_path / "out"
    command = Command(config, tmp_path / "log", faults="run.contact_sheet_put:kill")
    assert command.end() == -signal.SIGKILL, command.text
    # what a run of more than ten seconds has told by then
    StatusReader(config.out).store.put(PROGRESS_NAME, live().to_bytes())
    found = run_status(config.out)
    assert (found.state, found.activity, found.shards_done) == ("partial", "dead", 3)
    assert "the command that began this run goes on with it" in "\n".join(found.lines())
    assert Command(config, tmp_path / "again").end() == 0
    found = run_status(config.out)
    assert (found.state, found.activity, found.error) == ("complete", "complete", "")
    assert "died" not in "\n".join(found.lines())
    assert {"contact_sheet.png", "manifest.json", "index.json", "README.md"} <= {
        path.name for path in out.iterdir()
    }


@pytest.mark.parametrize(
    "step", ["run.contact_sheet_put", pytest.param("index.manifest_put", marks=pytest.mark.slow)]
)
def test_a_stop_while_the_indexes_are_written_lets_them_be_written(tmp_path, step):
    config = run_config(tmp_path, runtime={"runner": "local"})
    command = Command(config, tmp_path / "log", faults=f"{step}:term")
    assert command.end() == 0, command.text
    assert "SIGTERM: finishing the files that describe the corpus; a second one" in command.text
    assert run_status(config.out).state == "complete"


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "ovamgen", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"},
        **options,
    )


def test_ctrl_c_ends_the_watching_without_a_word(tmp_path):
    config = run_config(tmp_path)
    from ovamgen.run.run import write_plan

    write_plan(config)
    command = ("status", config.out, "--watch", "--interval", "0.2")
    child = start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "planned: 0 of 3 shards, 0/22 samples\n"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (130, "")


def test_on_a_terminal_the_picture_is_refreshed_until_the_run_is_complete(tmp_path):
    config = run_config(tmp_path, runtime={"runner": "local"})
    from ovamgen.run.run import write_plan

    write_plan(config)
    ours, theirs = pty.openpty()
    child = start("status", config.out, "--watch", "--interval", "0.2", stdout=theirs)
    os.close(theirs)
    shown = []

    def read():
        try:
            while data := os.read(ours, 65536):
                shown.append(data)
        except OSError:
            pass

    thread = threading.Thread(target=read)
    thread.start()
    deadline = time.monotonic() + 60
    while b"0/22" not in b"".join(shown):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    generate(config, partial(DiscEngine, batch_seconds=0.05))
    assert child.wait(timeout=60) == 0
    thread.join(timeout=10)
    os.close(ours)
    text = b"".join(shown).decode()
    assert "\x1b[" in text, "the same lines are written over"
    assert "22/22" in text
    assert "complete" in text
