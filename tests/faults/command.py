"""``ovamgen generate`` with the disc engine, in a process that may be killed.

As a program, ``python -m tests.faults.command CONFIG.json BATCH_SECONDS``, it takes its faults from
the environment, as the real command does. As `Command` it is forked off a server that has imported
everything once, so that an attempt takes a fraction of a second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ovamgen import fault_points
from ovamgen.config import RunConfig
from ovamgen.errors import OvamgenError
from ovamgen.generation import generate
from ovamgen.run.drain import Interrupted
from tests.fakes import DiscEngine

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        __name__,
        "tests.faults.publishing",
        "tests.fuzz.readers",
        "ovamgen.run.local",
        "ovamgen.attribution.method",
        "ovamgen.attribution.token_bank",
        "ovamgen.diffusion.pipeline",
        "ovamgen.report.figures",
        # what the commands import that tests/hostile puts attacks to
        "ovamgen.annotate.importing",
        "ovamgen.cli",
        "ovamgen.corpus.export.hf",
        "ovamgen.corpus.export.voc",
        "ovamgen.corpus.reannotate",
        "ovamgen.doctor.examine",
        "ovamgen.engine.one_image",
        "ovamgen.evaluate.masks",
        "ovamgen.integrity.repair",
        "ovamgen.integrity.replay",
        "ovamgen.report.write",
        "ovamgen.segmentor.score",
        "ovamgen.segmentor.training",
        "ovamgen.tokens.banks",
        # what those import only once they run
        "pandas",
        "rich.markdown",
        "typer.main",
        "typer.rich_utils",
    ]
)

WORKERS = "OVAMGEN_TEST_WORKERS"
"""Variables, as JSON, for the workers of a Ray that is there already."""
LIMIT_SECONDS = 110.0


class Command:
    """One attempt at a run in one process, begun at once."""

    def __init__(
        self,
        config: RunConfig,
        log: Path,
        *,
        faults: str = "",
        batch_seconds: float = 0.0,
        extend: bool = False,
    ) -> None:
        """``log`` gets stderr; ``faults`` are counted in this process alone."""
        aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        self._log = log
        self.process = SERVER.Process(
            target=_attempt, args=(config, str(log), faults, batch_seconds, aws, extend)
        )
        self.process.start()

    def end(self, limit_seconds: float = LIMIT_SECONDS) -> int:
        """The exit code, negative for a signal."""
        self.process.join(limit_seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"the command did not end: {self.text}")
        return self.process.exitcode

    @property
    def text(self) -> str:
        """What it said on stderr."""
        return self._log.read_text() if self._log.exists() else ""


def environment(repository: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Of a process that is this module as a program; a Ray that happens to be there is not used."""
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return own | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"} | more


def arguments(config: RunConfig, folder: Path, batch_seconds: float = 0.0) -> list[str]:
    """The command line of this module as a program; the configuration is left in the folder."""
    path = folder / "config.json"
    path.write_text(config.model_dump_json())
    return [sys.executable, "-m", __name__, str(path), str(batch_seconds)]


def run(config: RunConfig, batch_seconds: float, *, extend: bool = False) -> int:
    """The exit code of a run, as the command line gives it."""
    try:
        factory = partial(DiscEngine, batch_seconds=batch_seconds)
        outcome = generate(config, factory, extend=extend)
        outcome.check_complete()
    except OvamgenError as error:
        print(f"ovamgen: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except Interrupted as stop:
        print(f"ovamgen: {stop}", file=sys.stderr, flush=True)
        return stop.exit_code
    return 0


def _attempt(
    config: RunConfig,
    log: str,
    faults: str,
    batch_seconds: float,
    variables: Mapping[str, str],
    extend: bool,
) -> None:
    # the server that this is forked off may be older than they are
    os.environ.update(variables)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    if faults:
        # the server was started without faults: what its environment would have bound, bound now
        fault_points.reach = fault_points.reaching(faults)
    sys.exit(run(config, batch_seconds, extend=extend))


def main() -> int:
    """The exit code of the run of the configuration in the file that is named."""
    path, batch_seconds = sys.argv[1:]
    config = RunConfig.model_validate(json.loads(Path(path).read_text()))
    if WORKERS in os.environ:
        # workers of a Ray that others have started know nothing of this process's environment
        import ray

        ray.init(
            address=os.environ["RAY_ADDRESS"],
            log_to_driver=False,
            runtime_env={"env_vars": json.loads(os.environ[WORKERS])},
        )
    return run(config, float(batch_seconds))


if __name__ == "__main__":
    sys.exit(main())
