"""What Ray could do for a run, found out without waiting for a cluster that does not answer."""

from __future__ import annotations

import logging
import os
import re
import socket
from dataclasses import dataclass

import ray

from ovamgen.cluster.connection import resources_line

_CONNECT_SECONDS = 3.0
_ADDRESS = re.compile(r"(?P<host>[\w.-]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayFacts:
    """What was found."""

    address: str
    """Of the cluster that runs would use; "" for a Ray that each run starts by itself."""
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
    if refusal := _refusal(address):
        return RayFacts(address=address, is_reachable=False, message=refusal)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
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


def _refusal(address: str) -> str:
    """Why nothing answers at ``HOST:PORT``, within seconds: Ray itself would try for a minute."""
    place = _ADDRESS.fullmatch(address)
    if place is None:
        if address == "auto":
            return ""
        return f"RAY_ADDRESS must be HOST:PORT of a cluster or 'auto', got {address}"
    try:
        socket.create_connection(
            (place["host"], int(place["port"])), timeout=_CONNECT_SECONDS
        ).close()
    except (OSError, OverflowError) as error:
        return f"nothing answers at {address}: {error}"
    return ""
