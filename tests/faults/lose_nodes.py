"""Runs on a Ray of two nodes, one of which leaves while its processes stand at a named step.

In a process of its own: `cluster_utils` and the session's Ray do not share one. Its arguments are a
folder and steps; each run is left in FOLDER/STEP/out.
"""

import sys
import threading
import time
from functools import partial
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from ovamgen.config import RunConfig
from ovamgen.fault_points import FAULTS, MARKS
from ovamgen.generation import generate
from tests.fakes import DiscEngine

BATCH_SECONDS = 0.3


def main() -> None:
    folder, steps = Path(sys.argv[1]), sys.argv[2:]
    # logical GPUs: the disc engine draws without one, but its workers must be placed there
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False},
    )
    ray.init(address=cluster.address, log_to_driver=False)
    for step in steps:
        lose_a_node_at(step, cluster, folder / step)
    ray.shutdown()
    cluster.shutdown()


def lose_a_node_at(step: str, cluster: Cluster, folder: Path) -> None:
    marks = folder / "marks"
    marks.mkdir()
    # who gets to the step on this node stays there; what it had done is lost with the node
    variables = {FAULTS: f"{step}:sleep=600:2", MARKS: str(marks)}
    doomed = cluster.add_node(num_cpus=4, num_gpus=2, env_vars=variables)
    config = RunConfig.model_validate_json((folder / "config.json").read_text())

    def lose() -> None:
        while not (marks / f"{step}.2").exists():
            time.sleep(0.02)
        cluster.remove_node(doomed, allow_graceful=False)
        print(f"the node is gone at {step}", flush=True)

    thread = threading.Thread(target=lose)
    thread.start()
    generate(config, partial(DiscEngine, batch_seconds=BATCH_SECONDS))
    thread.join()


if __name__ == "__main__":
    main()
