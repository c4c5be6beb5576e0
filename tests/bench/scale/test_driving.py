"""The bench of the driver, small: the real driver, real Ray, real tars, workers that only wait."""

import json
import os
import signal
import threading
import time
from dataclasses import asdict
from functools import partial
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from ovamgen.bench.scale import bench
from ovamgen.bench.scale.drawing import draw_driver
from ovamgen.bench.scale.driving import (
    DriveSettings,
    measure_driver,
    simulated_config,
    steady_window,
)
from ovamgen.bench.scale.engine import Interval, SimulatedEngine, read_marks
from ovamgen.bench.scale.recovery import measure_recovery
from ovamgen.bench.scale.refining import simulated_refine
from ovamgen.cli.app import app
from ovamgen.cluster.driver import generate_on_ray
from ovamgen.cluster.processes import SharedProcesses
from ovamgen.console.progress import RunProgress
from ovamgen.errors import ConfigError
from ovamgen.run.run import open_run
from ovamgen.shards.shard_record import read_records

SMALL = DriveSettings(
    workers=3, batches=6, warmup=1, batch_size=2, batch_seconds=0.3, shard_size=12
)


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_session")
def test_a_small_run_is_measured():
    found = measure_driver(SMALL)
    assert (found.workers, found.samples) == (3, 36)
    # three workers with six batches each: most of them in the window in which all are at work
    assert 6 <= found.batches <= 18
    assert 0 < found.utilisation <= 1
    assert 0 < found.utilisation_from_start <= 1
    assert found.driver_ms_per_batch <= found.process_ms_per_batch
    assert found.private_bytes_peak > 10**6
    assert found.in_flight_bytes_peak > 0
    assert json.loads(json.dumps(asdict(found)))["timeline"][0]["private_bytes"] > 10**6


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_session")
def test_shared_processes_run_each_seat_in_order_and_survive_a_kill(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    config = simulated_config(tmp_path, SMALL)
    factory = partial(SimulatedEngine, batch_seconds=0.3, marks=marks)
    progress = RunProgress(total_samples=36, done_samples=0, total_shards=3)

    def kill_at_work():
        """Every seat has made a batch, and most of the 18 are still to be made."""
        while len(found := read_marks(marks)) < 3:
            time.sleep(0.05)
        os.kill(int(min(found).partition("-")[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill_at_work, daemon=True)
    with open_run(config) as run, progress:
        killer.start()
        processes = SharedProcesses(config, factory, seats=3)
        generate_on_ray(run, progress, processes=processes, refine=simulated_refine)
        store = run.store
    assert not killer.is_alive()
    records = read_records(store)
    assert sum(record.samples for record in records.values()) == 36
    batches = read_marks(marks)
    assert len({name.partition("-")[0] for name in batches}) == 2
    for intervals in batches.values():
        assert all(a.end <= b.begin for a, b in pairwise(intervals))


def test_the_window_is_where_all_are_at_work():
    first = [Interval(0.0, 2.0), Interval(2.0, 4.0)]
    later = [Interval(1.0, 3.0), Interval(3.0, 5.0)]
    assert steady_window({"a": first, "b": later}) == Interval(1.0, 4.0)
    assert steady_window({"a": first, "b": later}, warmup=1) == Interval(3.0, 4.0)
    with pytest.raises(ConfigError, match="never at work all at once"):
        steady_window({"a": first[:1], "b": later[1:]})
    with pytest.raises(ConfigError, match="got at most 0 batches"):
        steady_window({"a": first, "b": []})


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_session")
def test_throughput_comes_back_after_a_worker_was_killed():
    """DESIGN: a class of tasks stays throttled after a SIGKILL where actors own nested tasks."""
    found = measure_recovery()
    assert found.failed == 0
    assert found.samples == 4 * 50 * 8
    assert found.ratio >= 0.8


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["driver", "--workers", "1,x"], "--workers expects whole numbers of at least 1"),
        (["driver", "--workers", "0"], "--workers expects whole numbers of at least 1"),
        (["driver", "--batch-seconds", "0"], "--batch-seconds must be above 0"),
        (["driver", "--batches", "6"], "--batches must be above 6"),
        (["plan", "--captions", ""], "--captions expects whole numbers of at least 1"),
        (["plan", "--shards", "0"], "--shards must be at least 1"),
    ],
)
def test_wrong_options_are_named(arguments, complaint):
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(result.exception, ConfigError)
    assert complaint in str(result.exception)


def test_plans_and_resuming_are_measured(tmp_path):
    result = CliRunner().invoke(
        app, ["bench", "plan", "--captions", "300,900", "--shards", "40", "--out", str(tmp_path)]
    )
    assert result.exception is None, result.output
    assert "resuming" in result.output
    found = json.loads((tmp_path / "plan.json").read_text())
    assert [row["captions"] for row in found["plan"]] == [300, 900]
    assert found["resume"]["shards"] == 40
    assert isinstance(found["bytes_per_caption"], float)


def test_figures_are_drawn_from_what_was_measured(tmp_path):
    row = {
        "workers": 8,
        "batches": 100,
        "window_seconds": 25.0,
        "utilisation": 0.99,
        "utilisation_from_start": 0.97,
        "gap_ms_median": 8.0,
        "gap_ms_p99": 20.0,
        "driver_ms_per_batch": 1.0,
        "process_ms_per_batch": 3.0,
        "driver_load": 0.004,
        "private_bytes_first": 10**8,
        "private_bytes_peak": 10**8,
        "object_store_bytes_peak": 10**9,
        "timeline": [{"seconds": s, "private_bytes": 10**8} for s in range(3)],
    }
    killed = {"before": 8, "after": 7.9, "ratio": 0.99, "seconds_without": 2.0}
    recovery = killed | {"timeline": [(-1, 8), (0, 6), (1, 8)]}
    found = {"driver": [row], "recovery": [recovery]}
    assert draw_driver(found, tmp_path).read_bytes().startswith(b"\x89PNG")
    assert [table.row_count for table in bench.driver_tables(found)] == [1, 1]
    assert len(bench.driver_tables({"driver": [row], "recovery": []})) == 1
    draw_driver({"driver": [row], "recovery": []}, tmp_path)
