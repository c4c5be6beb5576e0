"""Entry point for ``ray job submit``: a segmentor trained under Ray Train, on several workers."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

# a job runs from its working directory, where the package need not be installed
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import ray
from ray.train import RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer

from ovamgen.config import parse_overrides, read_config_file
from ovamgen.errors import OvamgenError
from ovamgen.segmentor.settings import build_settings


def work(config: dict[str, Any]) -> None:
    """What every worker does; Ray Train has set the process group up."""
    from ovamgen.segmentor.training import train

    os.chdir(config["folder"])  # Ray Train changes it, and paths may be relative
    train(build_settings(config["settings"]), config["out"])


def main() -> int:
    """Trains to the end, or goes on with the training in --out; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="YAML, see train-segmentor.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets")
    parser.add_argument("--out", required=True, help="folder that all nodes see, as the data")
    parser.add_argument("--workers", type=int, default=1, help="each has a GPU, unless on CPU")
    asked = parser.parse_args()
    try:
        settings = build_settings(read_config_file(asked.config), parse_overrides(asked.sets))
        settings.part_size(asked.workers)
        environment = {"env_vars": {"PYTHONPATH": sys.path[0]}}
        ray.init(address=os.environ.get("RAY_ADDRESS") or "local", runtime_env=environment)
        gpu = settings.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        scaling = ScalingConfig(num_workers=asked.workers, use_gpu=gpu)
        storage = RunConfig(name="ray-train", storage_path=str(Path(asked.out).absolute()))
        told = {"settings": settings.model_dump(), "out": asked.out, "folder": os.getcwd()}
        TorchTrainer(work, train_loop_config=told, scaling_config=scaling, run_config=storage).fit()
    except (OvamgenError, WorkerGroupError) as error:
        failures = [*getattr(error, "worker_failures", {}).values(), error]
        print(f"ovamgen: {failures[0]}", file=sys.stderr)
        return int(getattr(failures[0], "exit_code", 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
