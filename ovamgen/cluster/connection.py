"""Reaching a Ray cluster, and finding out in seconds whether it can do what was asked."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from ovamgen.config import RunConfig
from ovamgen.errors import ClusterError, ConfigError

CORRECT = "correct that, or unset RAY_ADDRESS to start Ray in this process"

_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
_CONNECT_SECONDS = 3.0
_PING_SECONDS = 10.0
_PING = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""What every Ray process asks the head first; neither question nor answer need be understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayFacts:
    """What Ray could do for a run."""

    address: str
    """Address of the cluster that runs would use; "" for a Ray that each run starts by itself."""
    is_reachable: bool
    message: str
    gpus: int = 0


@contextmanager
def connected() -> Iterator[None]:
    """A Ray connection for the block: the open one, ``RAY_ADDRESS``, or a local Ray.

    Inside ``ray job submit`` the address is set by Ray. A Ray that was started here ends here.
    """
    address = os.environ.get("RAY_ADDRESS") or "local"
    local = {"include_dashboard": False} if address == "local" else {}
    with ExitStack() as stack:
        try:
            stack.enter_context(_joined(address, **local))
        except ClusterError as error:
            raise ClusterError(f"{error}; {CORRECT}") from None
        yield


def simulated_cluster(cpus: int) -> AbstractContextManager[None]:
    """A Ray on this machine with so many CPUs; the running one, where there is one."""
    return _joined("local", num_cpus=cpus, include_dashboard=False)


def examine_ray() -> RayFacts:
    """The cluster that ``RAY_ADDRESS`` names, or that runs would start their own Ray.

    One that does not answer is not waited for.
    """
    address, is_open = os.environ.get("RAY_ADDRESS", ""), ray.is_initialized()
    if address in ("", "local") and not is_open:
        text = f"ray {ray.__version__}; no RAY_ADDRESS: each run starts its own Ray"
        return RayFacts(address="", is_reachable=True, message=text)
    try:
        with _joined(address):
            gpus = int(ray.cluster_resources().get("GPU", 0))
            text = resources_line() if is_open else f"{address}: {resources_line()}"
            return RayFacts(address=address, is_reachable=True, message=text, gpus=gpus)
    except ClusterError as error:
        return RayFacts(address=address, is_reachable=False, message=str(error))


@contextmanager
def _joined(address: str, **options: Any) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    if refusal := refusal_of(address):
        raise ClusterError(refusal)
    # no notice about CUDA_VISIBLE_DEVICES from workers that ask for no GPU
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        # worker errors come back as exceptions, by name: their logs are not repeated here
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"no Ray at {address}: {reason[:300]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def refusal_of(address: str) -> str:
    """Why no run can use the cluster at ``HOST:PORT``, found out in seconds; "" where one may.

    Ray itself would try for minutes, and calls a token that is missing a cluster that is missing.
    """
    if address in ("local", "auto"):
        return ""
    place = _ADDRESS.fullmatch(address)
    if place is None:
        return f"RAY_ADDRESS must be HOST:PORT of a cluster or 'auto', got {address}"
    try:
        host, port = place["host"].strip("[]"), int(place["port"])
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        return f"nothing answers at {address}: {error}"
    # encrypted connections are left to Ray, which knows the certificates
    return "" if os.environ.get("RAY_USE_TLS", "0") != "0" else _answer_to_ping(address)


def _answer_to_ping(address: str) -> str:
    """What is wrong with whatever listens there: no Ray, or one that does not take our token."""
    import grpc

    mode = os.environ.get("RAY_AUTH_MODE", "")
    token = _token() if mode == "token" else ""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_PING)(b"", timeout=_PING_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            code = error.code()
        else:
            return ""
    status = grpc.StatusCode
    if code in (status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.UNIMPLEMENTED):
        return (
            f"what answers at {address} is no head of a Ray cluster (its port is 6379 as a rule; "
            "8265 is the dashboard)"
        )
    if code != status.UNAUTHENTICATED or mode not in ("", "disabled", "token"):
        return ""
    if mode != "token":
        return (
            f"the Ray cluster at {address} asks for a token: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) as on the cluster"
        )
    return (
        f"the Ray cluster at {address} "
        + ("has another token than this process" if token else "asks for a token, and none is here")
        + ": set RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) as on the cluster"
    )


def _token() -> str:
    """Where Ray looks for it, in the same order."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""


def object_store_bytes() -> tuple[float, float]:
    """(used, total) of the object stores of all nodes, as the nodes last told."""
    total = float(object_store_capacity())
    return total - ray.available_resources().get("object_store_memory", 0.0), total


def object_store_capacity() -> int:
    """Bytes that the object stores of all nodes hold together."""
    return round(ray.cluster_resources().get("object_store_memory", 0.0))


def worker_count(config: RunConfig, say: Callable[[str], None]) -> int:
    """How many workers to start, once the cluster has been seen to have what they need.

    Raises:
        ConfigError: CUDA was asked for, and no GPU came within ``runtime.gpu_wait_seconds``; as
            where a run without Ray finds none.
    """
    asked = config.runtime.workers
    if config.model.device == "cpu":
        # a model of gigabytes is held once, unless more was asked for
        cores = int(ray.cluster_resources().get("CPU", 1)) if config.model.id == "mini" else 1
        return asked or max(1, cores // (config.runtime.cpu_threads or 1))
    gpus = _wait_for_gpus(config, say)
    if asked is None:
        return gpus
    if gpus < asked:
        say(
            f"{asked} workers were asked for, the cluster has {gpus} GPU{'s' * (gpus != 1)}: "
            "starting with those, the others as GPUs come"
        )
    return asked


def resources_line() -> str:
    """What the cluster has, for messages: ``the cluster has 2 nodes, 8 CPUs, 0 GPUs``."""
    have = ray.cluster_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    cpus, gpus = have.get("CPU", 0), have.get("GPU", 0)
    return (
        f"the cluster has {nodes} node{'s' * (nodes != 1)}, {cpus:g} CPU{'s' * (cpus != 1)}, "
        f"{gpus:g} GPU{'s' * (gpus != 1)}"
    )


def _wait_for_gpus(config: RunConfig, say: Callable[[str], None]) -> int:
    wait = config.runtime.gpu_wait_seconds if os.environ.get("RAY_ADDRESS") else 0.0
    deadline = time.monotonic() + wait
    said = False
    while not (gpus := int(ray.cluster_resources().get("GPU", 0))):
        if time.monotonic() >= deadline:
            raise ConfigError(
                f"{config.model.id} on cuda needs a GPU for each worker, and {resources_line()} "
                f"after {wait:g} s. Give the cluster a GPU node (an autoscaling one: raise "
                "runtime.gpu_wait_seconds), or use --device cpu"
            )
        if not said:
            say(f"no GPU yet: waiting at most {wait:g} s for one to join")
            _ask_autoscaler(config)
            said = True
        time.sleep(1.0)
    return gpus


def _ask_autoscaler(config: RunConfig) -> None:
    """A cluster that starts at 0 GPUs grows when it is told of the demand."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"GPU": 1}] * (config.runtime.workers or 1))
