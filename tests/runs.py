"""What the tests of whole runs share: a configuration with captions, and how to compare outputs."""

from __future__ import annotations

import atexit
import csv
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ovamgen.config import RunConfig, build_config
from ovamgen.console.progress import RunProgress
from ovamgen.run.bad_samples import EngineFactory
from ovamgen.run.run import Run, open_run

PROMPTS = [
    "a cat on a sofa",
    "two dogs in the snow",
    "a bus in the street",
    "a bird above the sea",
    "a horse and a cow",
    "a boat at night",
    "a sheep on the grass",
]

CAPTIONS = Path(tempfile.mkdtemp(prefix="ovamgen-test-captions-"))
"""One path for all runs of equal captions: it stands in run.yaml, which is compared too."""
atexit.register(shutil.rmtree, CAPTIONS)


def captions_file(path: Path, texts: Sequence[str]) -> Path:
    """A CSV of the texts, numbered so that no two are equal."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "caption"])
        writer.writerows([i, f"{text} number {i}"] for i, text in enumerate(texts))
    return path


def run_config(
    folder: Path, count: int = 22, texts: Sequence[str] | None = None, **sections: Any
) -> RunConfig:
    """A run of ``count`` captions in shards of 8 and batches of 3, output in ``folder/out``."""
    texts = texts or [PROMPTS[i % len(PROMPTS)] for i in range(count)]
    name = hashlib.sha256(repr(texts).encode()).hexdigest()[:16]
    captions = captions_file(CAPTIONS / f"{name}.csv", texts)
    base = {
        "plan": {"captions": str(captions), "shard_size": 8, "batch_size": 3},
        "model": {"id": "mini"},
        "out": str(folder / "out"),
        "runtime": {"cpu_threads": 1},
    }
    return build_config(base, sections)


def make(
    config: RunConfig,
    runner: Callable[[Run, RunProgress, EngineFactory | None], None],
    factory: EngineFactory | None,
) -> Run:
    """Runs the pending shards and writes the indexes, as a command does."""
    with open_run(config) as run:
        progress = RunProgress(
            total_samples=run.total_samples, done_samples=0, total_shards=len(run.pending)
        )
        with progress:
            runner(run, progress, factory)
        run.write_indexes()
    return run


def digests(folder: Path | str) -> dict[str, str]:
    """sha256 of every file below a folder, hidden and temporary ones included.

    What a run says of itself under ``logs/`` holds clocks, and is no part of the corpus.
    """
    root = Path(folder)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] != "logs"
    }
