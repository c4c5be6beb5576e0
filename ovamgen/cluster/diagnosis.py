"""What Ray could do for a run, found out without waiting for a cluster that does not answer."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from ovamgen.cluster.connection import refusal_of, resources_line


@dataclass(frozen=True, slots=True, kw_only=True)
class RayFacts:
    """What was found."""

    address: str
    """Address of the cluster that runs would use; "" for a Ray that each run starts by itself."""
    is_reachable: bool
    message: str
    gpus: int = 0


def examine_ray() -> RayFacts:
    """The cluster that ``RAY_ADDRESS`` names, or that runs would start their own Ray."""
    address = os.environ.get("RAY_ADDRESS", "")
    if ray.is_initialized():
        gpus = int(ray.cluster_resources().get("GPU", 0))
        return RayFacts(address=address, is_reachable=True, message=resources_line(), gpus=gpus)
    if address in ("", "local"):
        text = f"ray {ray.__version__}; no RAY_ADDRESS: each run starts its own Ray"
        return RayFacts(address="", is_reachable=True, message=text)
    if refusal := refusal_of(address):
        return RayFacts(address=address, is_reachable=False, message=refusal)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split())[:300]
        return RayFacts(
            address=address, is_reachable=False, message=f"no Ray at {address}: {reason}"
        )
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        text = f"{address}: {resources_line()}"
        return RayFacts(address=address, is_reachable=True, message=text, gpus=gpus)
    finally:
        ray.shutdown()
