"""A Ray of two nodes in a process of its own: prints its job server's address, ends with stdin."""

import json
import socket
import sys
import time

from ray.cluster_utils import Cluster
from ray.job_submission import JobSubmissionClient


def main() -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "include_dashboard": True,
            "dashboard_port": 0,
            # Ray's default is one fixed port, where the agent of a killed Ray may sit for a minute
            "dashboard_agent_listen_port": free_port(),
        },
    )
    cluster.add_node(num_cpus=2, dashboard_agent_listen_port=free_port())
    cluster.wait_for_nodes()
    address = f"http://{cluster.head_node.webui_url}"
    wait_for_agent(address)
    print(json.dumps({"jobs": address, "gcs": cluster.address}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_agent(address: str) -> None:
    """The job server answers before there is an agent that it could give a job to."""
    client = JobSubmissionClient(address)
    deadline = time.monotonic() + 90
    while True:
        try:
            client.submit_job(entrypoint="true")
            return
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


if __name__ == "__main__":
    main()
