"""The Ray driver with real Ray, against the one-process runner: equal bytes, whatever happens."""

import os
import signal
import threading
import time
from functools import partial

import pytest
from ray.exceptions import ObjectLostError

from ovamgen.cluster.cpu_tasks import Finishing
from ovamgen.cluster.driver import generate_on_ray
from ovamgen.config import build_config
from ovamgen.errors import ClusterError, ConfigError, OvamgenError
from ovamgen.run.local import generate_local
from ovamgen.run.run import open_run
from ovamgen.shards.shard_record import read_records
from ovamgen.status.status import run_status
from ovamgen.storage.store import open_store
from tests.fakes import DiscEngine
from tests.run.test_early_stop import NoMaxima, NoNumbers
from tests.runs import PROMPTS, digests, make, run_config

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_session")]


both_depths = pytest.mark.parametrize("depth", [pytest.param(1, marks=pytest.mark.slow), 2])
"""Batches in a worker at once: one, as on a CPU, or two, as on a GPU."""


def crossed(firsts, *every_day):
    """Each first value with each depth; pairs that are not for every day are slow."""
    return [
        pytest.param(first, depth, marks=() if (first, depth) in every_day else pytest.mark.slow)
        for first in firsts
        for depth in (1, 2)
    ]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What a run leaves that nothing disturbed, in one process."""
    config = run_config(tmp_path_factory.mktemp("reference"))
    make(config, generate_local, DiscEngine)
    return digests(config.out)


@pytest.mark.parametrize(
    "workers", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_any_number_of_workers_gives_the_bytes_of_one_process(tmp_path, reference, workers):
    config = run_config(tmp_path, runtime={"workers": workers})
    make(config, generate_on_ray, DiscEngine)
    assert digests(config.out) == reference
    assert any(name.endswith("train-000002.tar") for name in reference)


class _Counted(DiscEngine):
    """Leaves a file for each number of batches that were in it at once."""

    def __init__(self, config, *, seen):
        super().__init__(config)
        self._seen, self._inside, self._lock = seen, 0, threading.Lock()

    def synthesise(self, specs):
        with self._lock:
            self._inside += 1
        (self._seen / str(self._inside)).touch()
        time.sleep(0.2)
        with self._lock:
            self._inside -= 1
        return super().synthesise(specs)


@both_depths
def test_batches_that_are_in_a_worker_at_once_give_the_same_bytes(tmp_path, reference, depth):
    """One is drawn while another is handed over."""
    seen = tmp_path / "seen"
    seen.mkdir()
    config = run_config(tmp_path, runtime={"workers": 1, "worker_batches": depth})
    make(config, generate_on_ray, partial(_Counted, seen=seen))
    assert len([*seen.iterdir()]) == depth
    assert digests(config.out) == reference


def test_a_byte_cap_below_one_batch_slows_the_run_and_changes_nothing(tmp_path, reference):
    runtime = {"workers": 2, "in_flight_bytes": 1, "open_shards": 1, "refine_images": 1}
    config = run_config(tmp_path, runtime=runtime)
    make(config, generate_on_ray, DiscEngine)
    assert digests(config.out) == reference


@pytest.mark.parametrize("depth", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_one_bad_sample_is_recorded_and_its_neighbours_go_on(tmp_path, depth):
    texts = [PROMPTS[i % len(PROMPTS)] for i in range(14)]
    texts[5] = "a cat with poison"
    outs = []
    for name, runner in [("local", generate_local), ("ray", generate_on_ray)]:
        folder = tmp_path / name
        folder.mkdir()
        runtime = {"workers": 2, "worker_batches": depth}
        config = run_config(folder, texts=texts, runtime=runtime)
        run = make(config, runner, DiscEngine)
        assert run.summary().failed == 1
        assert run.summary().samples == 13
        status = run_status(config.out)
        assert len(status.failures) == 1
        assert next(iter(status.failures)).startswith("synthesis: RuntimeError: bad luck with 0000")
        outs.append(digests(config.out))
    assert outs[0] == outs[1]


@pytest.mark.parametrize(("kills", "depth"), crossed((2, 5), (2, 2)))
def test_a_batch_whose_workers_were_killed_costs_nothing_but_time(tmp_path, kills, depth):
    """Five kills are more than ``batch_attempts``: the batch is probed, and nobody is guilty."""
    texts = [*PROMPTS, "a deadly cat", *PROMPTS]
    marks = tmp_path / "marks"
    marks.mkdir()
    runtime = {"workers": 2, "worker_batches": depth}
    config = run_config(tmp_path, texts=texts, runtime=runtime)
    run = make(config, generate_on_ray, partial(DiscEngine, marks=marks, kills=kills))
    assert len(list(marks.iterdir())) == kills
    assert run.summary().failed == 0
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    other = run_config(undisturbed, texts=texts)
    make(other, generate_local, partial(DiscEngine, marks=marks, kills=0))
    assert digests(config.out) == digests(other.out)


@pytest.mark.parametrize(("attempts", "depth"), crossed((1, 2), (2, 2)))
def test_a_sample_that_always_kills_its_worker_is_found_and_recorded(tmp_path, attempts, depth):
    """Beside it in the worker was another batch, which may be blamed but not made guilty."""
    texts = [*PROMPTS, "a deadly cat", *PROMPTS]
    marks = tmp_path / "marks"
    marks.mkdir()
    runtime = {"workers": 1, "batch_attempts": attempts, "worker_batches": depth}
    config = run_config(tmp_path, texts=texts, runtime=runtime)
    run = make(config, generate_on_ray, partial(DiscEngine, marks=marks, kills=1000))
    assert (run.summary().failed, run.summary().samples) == (1, 14)
    ((reason, count),) = run_status(config.out).failures.items()
    assert "the worker process died" in reason
    assert count == 1


@both_depths
def test_killing_workers_at_any_time_gives_the_same_bytes(tmp_path, reference, depth):
    config = run_config(tmp_path, runtime={"workers": 2, "worker_batches": depth})
    killed = []

    def kill_some(stop):
        while not stop.wait(0.35) and len(killed) < 4:
            found = [p for p in (tmp_path / "pids").iterdir() if p.name not in killed]
            for path in found[:1]:
                killed.append(path.name)
                os.kill(int(path.name), signal.SIGKILL)

    (tmp_path / "pids").mkdir()
    stop = threading.Event()
    thread = threading.Thread(target=kill_some, args=(stop,))
    thread.start()
    try:
        factory = partial(_SlowDiscs, pids=tmp_path / "pids")
        make(config, generate_on_ray, factory)
    finally:
        stop.set()
        thread.join()
    assert len(killed) >= 2
    assert digests(config.out) == reference


class _SlowDiscs(DiscEngine):
    """Says its process id, and takes long enough to be killed in the middle of a batch."""

    def __init__(self, config, *, pids):
        super().__init__(config, batch_seconds=0.3)
        (pids / str(os.getpid())).touch()


@pytest.mark.parametrize("step", [pytest.param("refined", marks=pytest.mark.slow), "written"])
def test_lost_images_are_made_again(tmp_path, reference, monkeypatch, capfd, step):
    """The answer that Ray gives when a node has left with an object: the shard starts again.

    A node that really leaves: test_lost_node.py.
    """
    config = run_config(tmp_path, runtime={"workers": 2})
    original, lost = getattr(Finishing, step), []

    def lose_once(self, *arguments):
        if lost:
            original(self, *arguments)
            return
        first = arguments[0]
        lost.append(first)
        shard = first if step == "written" else first.batch.shard
        if step == "refined":
            self.payload_bytes -= first.nbytes
        self.on_lost(shard, ObjectLostError("00" * 28, None, ""))

    monkeypatch.setattr(Finishing, step, lose_once)
    run = make(config, generate_on_ray, DiscEngine)
    assert lost
    assert "lost its images (ObjectLostError): again" in capfd.readouterr().err
    assert run.summary().samples == 22
    assert digests(config.out) == reference


def test_the_same_command_goes_on_where_it_stopped_and_then_does_nothing(tmp_path, reference):
    config = run_config(tmp_path, runtime={"workers": 2})
    make(config, generate_local, DiscEngine)
    root = tmp_path / "out"
    (root / "train-000001.tar").unlink()
    (root / "manifests" / "000002.json").unlink()
    run = make(config, generate_on_ray, DiscEngine)
    assert sorted(run.made_now) == [1, 2]
    assert digests(config.out) == reference
    assert make(config, generate_on_ray, DiscEngine).made_now == []


def test_workers_that_keep_dying_while_they_load_stop_the_run(tmp_path):
    config = run_config(tmp_path, runtime={"workers": 2, "crash_budget": 2})
    start = time.monotonic()
    with pytest.raises(ClusterError, match="3 workers in a row died before they were ready"):
        make(config, generate_on_ray, partial(DiscEngine, load="die"))
    assert time.monotonic() - start < 60
    assert read_records_of(config) == {}


def test_a_model_that_cannot_load_stops_the_run_by_name(tmp_path):
    config = run_config(tmp_path, runtime={"workers": 2})
    with pytest.raises(ConfigError, match="weights of the disc engine cannot be read"):
        make(config, generate_on_ray, partial(DiscEngine, load="refuse"))


def test_a_run_whose_samples_all_fail_stops_early(tmp_path):
    config = run_config(tmp_path, texts=["a cat with poison"] * 60, runtime={"workers": 2})
    with pytest.raises(OvamgenError, match=r"the first \d+ samples all failed.*bad luck"):
        make(config, generate_on_ray, DiscEngine)
    assert read_records_of(config) == {}


@pytest.mark.slow  # the same without Ray: tests/run/test_early_stop.py
@pytest.mark.parametrize("engine", [NoNumbers, NoMaxima])
def test_so_does_one_whose_samples_fail_after_they_were_drawn(tmp_path, engine):
    config = run_config(tmp_path, count=60, runtime={"workers": 2})
    with pytest.raises(OvamgenError, match=r"the first \d+ samples all failed.* in (masks|enc)"):
        make(config, generate_on_ray, engine)
    assert read_records_of(config) == {}


def test_without_a_gpu_the_run_says_so_at_once_with_the_same_exit_code(tmp_path, monkeypatch):
    config = build_config(run_config(tmp_path).model_dump(), {"model": {"device": "cuda"}})
    start = time.monotonic()
    with pytest.raises(OvamgenError, match=r"needs a GPU.*2 CPUs, 0 GPUs.*--device cpu") as on_ray:
        make(config, generate_on_ray, DiscEngine)
    assert time.monotonic() - start < 20
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OvamgenError, match=r"no CUDA device.*--device cpu") as here:
        make(config, generate_local, None)
    assert on_ray.value.exit_code == here.value.exit_code == 2


def test_a_second_run_on_one_output_is_refused(tmp_path):
    config = run_config(tmp_path)
    with open_run(config), pytest.raises(ConfigError, match="another run"), open_run(config):
        pass


def read_records_of(config):
    return read_records(open_store(config.out))
