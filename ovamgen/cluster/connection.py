"""Reaching a Ray cluster, and finding out in seconds whether it can do what was asked."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from ovamgen.config import RunConfig
from ovamgen.errors import ClusterError


@contextmanager
def connected(config: RunConfig) -> Iterator[None]:
    """A Ray connection for the block: the one that is there, ``RAY_ADDRESS``, or a local Ray.

    Inside ``ray job submit`` the address is set by Ray. A Ray that was started here ends here.
    """
    if ray.is_initialized():
        yield
        return
    # no notice about CUDA_VISIBLE_DEVICES from workers that ask for no GPU
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS") or "local"
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        # worker errors come back as exceptions, by name: their logs are not repeated here
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(
            f"no Ray cluster answers at {address}: {reason[:300]}; check RAY_ADDRESS, or unset it "
            "to start Ray in this process"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def simulated_cluster(cpus: int) -> Iterator[None]:
    """A Ray of this machine that believes in so many CPUs; the one that is there, if there is."""
    if ray.is_initialized():
        yield
        return
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()


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
        ClusterError: CUDA was asked for, and no GPU came within ``runtime.gpu_wait_seconds``.
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
            raise ClusterError(
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
