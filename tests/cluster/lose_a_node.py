"""A run on a Ray of three nodes: one with most of the GPUs is lost on the way.

In a process of its own: `cluster_utils` and the session's Ray do not share one.
"""

import sys
import threading
import time
from functools import partial
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from ovamgen.cluster.driver import generate_on_ray
from tests.fakes import DiscEngine
from tests.runs import make, run_config

FOLDER = Path(sys.argv[1])


def main() -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    # logical GPUs: the disc engine draws without one, but its workers must be placed there
    doomed = cluster.add_node(num_cpus=4, num_gpus=3)
    cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    runtime = {"workers": 4, "refine_images": 1}
    config = run_config(FOLDER, count=150, runtime=runtime, model={"device": "cuda"})

    def lose_the_node() -> None:
        while not list(FOLDER.glob("out/manifests/*.json")):
            time.sleep(0.02)
        time.sleep(0.3)
        cluster.remove_node(doomed, allow_graceful=False)
        print("the node is gone", flush=True)

    thread = threading.Thread(target=lose_the_node)
    thread.start()
    run = make(config, generate_on_ray, partial(DiscEngine, batch_seconds=1.0))
    thread.join()
    print(f"{run.summary().samples} made, {run.summary().failed} failed", flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
