"""The scale bench: each measurement in a process of its own, results as JSON, table and figure."""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from ovamgen.bench.scale.driving import DriveMeasurement, DriveSettings, measure_driver
from ovamgen.bench.scale.planning import measure_plan, measure_resume
from ovamgen.bench.scale.recovery import measure_recovery
from ovamgen.storage.whole_files import write_whole

T = TypeVar("T")


def apart(function: Callable[..., T], *arguments: object) -> T:
    """The result of a function that is called in a new process, so that memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_be_quiet) as pool:
        return pool.submit(function, *arguments).result()


def _be_quiet() -> None:
    """What Ray says goes to stderr: stdout is for the figures."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def bench_driver(
    settings: DriveSettings,
    workers: Sequence[int],
    *,
    repeats: int = 1,
    recovery: bool = True,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The driver over so many simulated workers: for each number the run of median utilisation."""
    rows, loads = [], []
    for count in workers:
        runs: list[DriveMeasurement] = []
        for number in range(repeats):
            loads.append(os.getloadavg()[0])
            say(f"{count} simulated workers, run {number + 1} of {repeats}, load {loads[-1]:.1f}")
            runs.append(apart(measure_driver, replace(settings, workers=count)))
        shares = sorted(run.utilisation for run in runs)
        middle = statistics.median_low(shares)
        row = asdict(next(run for run in runs if run.utilisation == middle))
        rows.append(row | {"utilisations": shares})
    found: dict[str, Any] = {"driver": rows, "recovery": []}
    if recovery:
        for number in range(repeats):
            say(f"a worker is killed, run {number + 1} of {repeats}")
            found["recovery"].append(asdict(apart(measure_recovery)))
    return found | {"machine": _machine(loads)}


def bench_plan(
    captions: Sequence[int], shards: int | None, *, say: Callable[[str], None]
) -> dict[str, Any]:
    """Plans of so many captions, and resuming over so many finished shards."""
    rows = []
    loads = [os.getloadavg()[0]]
    for count in captions:
        say(f"a plan of {count:,} captions")
        rows.append(asdict(apart(measure_plan, count)))
        loads.append(os.getloadavg()[0])
    found: dict[str, Any] = {"plan": rows}
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        more = last["captions"] - first["captions"]
        grown = last["make_private_bytes"] - first["make_private_bytes"]
        found["bytes_per_caption"] = round(grown / more, 1)
    if shards is not None:
        say(f"resuming over {shards:,} finished shards")
        found["resume"] = asdict(apart(measure_resume, shards))
    return found | {"machine": _machine(loads)}


def save(folder: Path, name: str, found: dict[str, Any]) -> Path:
    """Writes the figures as ``NAME.json`` into a folder."""
    path = folder / f"{name}.json"
    write_whole(path, (json.dumps(found, indent=2) + "\n").encode(), make_folder=True)
    return path


def driver_tables(found: dict[str, Any]) -> list[Table]:
    """The figures of `bench_driver` for people."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "workers": lambda row: str(row["workers"]),
        "busy": lambda row: f"{row['utilisation']:.1%}",
        "from the start": lambda row: f"{row['utilisation_from_start']:.1%}",
        "batches/s": lambda row: f"{row['batches'] / row['window_seconds']:.1f}",
        "gap ms": lambda row: f"{row['gap_ms_median']:.0f} .. {row['gap_ms_p99']:.0f}",
        "driver ms/batch": lambda row: f"{row['driver_ms_per_batch']:.2f}",
        "process ms/batch": lambda row: f"{row['process_ms_per_batch']:.2f}",
        "driver core": lambda row: f"{row['driver_load']:.1%}",
        "driver MB": lambda row: (
            f"{row['private_bytes_first'] / 1e6:.0f} .. {row['private_bytes_peak'] / 1e6:.0f}"
        ),
        "store MB": lambda row: f"{row['object_store_bytes_peak'] / 1e6:.0f}",
    }
    tables = [_table("the driver over simulated workers", columns, found["driver"])]
    if found["recovery"]:
        columns = {
            "before": lambda row: f"{row['before']:.2f}",
            "after": lambda row: f"{row['after']:.2f}",
            "after / before": lambda row: f"{row['ratio']:.3f}",
            "s without it": lambda row: f"{row['seconds_without']:.1f}",
        }
        title = "batches a second before and after a worker is killed"
        tables.append(_table(title, columns, found["recovery"]))
    return tables


def plan_tables(found: dict[str, Any]) -> list[Table]:
    """The figures of `bench_plan` for people."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "captions": lambda row: f"{row['captions']:,}",
        "plan MB": lambda row: f"{row['plan_bytes'] / 1e6:.1f}",
        "CPU s": lambda row: f"{row['make_seconds']:.1f}",
        "peak MB": lambda row: f"{row['make_private_bytes'] / 1e6:.0f}",
        "open CPU s": lambda row: f"{row['open_seconds']:.1f}",
        "open MB": lambda row: f"{row['open_private_bytes'] / 1e6:.0f}",
        "shard ms": lambda row: f"{row['task_ms']:.1f}",
        "far shard ms": lambda row: f"{row['far_task_ms']:.1f}",
    }
    tables = [_table("plans", columns, found["plan"])]
    if "resume" in found:
        columns = {
            "finished shards": lambda row: f"{row['shards']:,}",
            "s": lambda row: f"{row['seconds']:.1f}",
            "CPU s": lambda row: f"{row['processor_seconds']:.1f}",
        }
        tables.append(_table("resuming", columns, [found["resume"]]))
    return tables


def _table(
    title: str,
    columns: Mapping[str, Callable[[dict[str, Any]], str]],
    rows: Sequence[dict[str, Any]],
) -> Table:
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    return table


def _machine(loads: Sequence[float]) -> dict[str, Any]:
    """What the figures depend on, without the name of a host."""
    return {
        "logical_cores": os.cpu_count(),
        "load_lowest": round(min(loads), 1),
        "load_highest": round(max(loads), 1),
    }
