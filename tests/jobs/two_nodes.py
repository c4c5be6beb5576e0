"""A Ray of two nodes in a process of its own: prints its job server's address, ends with stdin."""

import json
import sys

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": True, "dashboard_port": 0},
    )
    cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    head = cluster.head_node
    print(json.dumps({"jobs": f"http://{head.webui_url}", "gcs": cluster.address}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
