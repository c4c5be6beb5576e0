"""This machine: Python and libraries, cores and threads, GPU, dense CRF, temporary space."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
from packaging.requirements import InvalidRequirement, Requirement

from ovamgen import __version__
from ovamgen.config import CrfConfig, RunConfig
from ovamgen.console.wording import counted, readable_bytes
from ovamgen.doctor.findings import Finding, fine, problem, warning

_SHOWN = ("torch", "diffusers", "transformers", "ray", "pyarrow", "numpy", "webdataset")
_HERE = (None, "", "local")
"""Values of RAY_ADDRESS with which a run starts its own Ray on this machine."""
_SMALL_MEMORY_BYTES = 4e9
_SMALL_GPU_BYTES = 6e9
"""Stable Diffusion 1.5 in half precision with a batch of 8 needs about so much."""
_SMALL_TEMPORARY_BYTES = 2e9


def versions() -> Iterator[Finding]:
    """Python and the libraries, against what this ovamgen was made for."""
    wrong = [text for text in map(_mismatch, _requirements()) if text]
    if wrong:
        fix = "pip install -c constraints.txt ovamgen (constraints.txt is in the repository)"
        yield problem("versions", "; ".join(wrong), fix)
    found = [f"{name} {metadata.version(name)}" for name in _SHOWN if _installed(name)]
    python = f"ovamgen {__version__}, python {platform.python_version()}"
    if not wrong:
        yield fine("versions", ", ".join([python, *found]))


def _requirements() -> list[Requirement]:
    """The dependencies that are not extras; none where only the source tree is there."""
    try:
        texts = metadata.requires("ovamgen") or []
    except metadata.PackageNotFoundError:
        return [Requirement(name) for name in _SHOWN]
    found = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.append(requirement)
    return found


def _mismatch(requirement: Requirement) -> str:
    if not _installed(requirement.name):
        return f"{requirement.name} is not installed"
    version = metadata.version(requirement.name)
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} must be {requirement.specifier}, {version} is installed"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def cores(config: RunConfig) -> Iterator[Finding]:
    """Cores, memory, and the threads that a run on CPU would take."""
    # the affinity, not the number in the machine: containers are given fewer
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().available
    text = f"{counted(have or 1, 'core')}, {readable_bytes(memory)} of memory free"
    threads = (config.runtime.cpu_threads or 1) * (config.runtime.workers or 1)
    if config.model.device == "cpu" and threads > (have or 1):
        yield warning(
            "cores",
            f"{text}; {config.runtime.workers or 1} workers of {config.runtime.cpu_threads} "
            "threads take more cores than there are",
            "lower runtime.workers; runtime.cpu_threads decides last bits, so keep it over a run",
        )
    elif memory < _SMALL_MEMORY_BYTES:
        yield warning(
            "cores", text, "end other programs, or lower runtime.workers and plan.batch_size"
        )
    else:
        yield fine("cores", text)


def gpu(config: RunConfig) -> Iterator[Finding]:
    """The CUDA devices of this machine, if the run asks for one here."""
    import torch

    wanted = config.model.device == "cuda"
    if not torch.cuda.is_available():
        build = torch.version.cuda
        text = f"no CUDA device; torch {torch.__version__}"
        if not wanted:
            yield fine("gpu", f"{text}; {config.model.id} runs on cpu")
        elif config.runtime.runner == "ray" and os.environ.get("RAY_ADDRESS") not in _HERE:
            yield fine("gpu", f"{text}; the workers are on the cluster")
        elif build is None:
            yield problem(
                "gpu",
                f"{text} is built for CPU alone, and {config.model.id} is to run on cuda",
                "install a torch with CUDA (https://pytorch.org), or give --device cpu",
            )
        else:
            yield problem(
                "gpu",
                f"{text} is built for CUDA {build}, and no driver answers",
                "see what nvidia-smi says, or give --device cpu",
            )
        return
    for index in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(index)
        free, total = torch.cuda.mem_get_info(index)
        room = f"{readable_bytes(free)} of {readable_bytes(total)} free"
        text = f"{name}: {room}, CUDA {torch.version.cuda}"
        if wanted and free < _SMALL_GPU_BYTES:
            yield warning(
                "gpu", text, "end other programs on the device, or make plan.batch_size smaller"
            )
        else:
            yield fine("gpu", text)


def dense_crf() -> Iterator[Finding]:
    """The compiled dense CRF, on a picture of a few pixels."""
    import numpy as np

    from ovamgen.masks.crf import dense_crf as refine

    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    one = np.zeros((8, 8), np.float32)
    one[:, 4:] = 1.0
    labels = refine(image, np.stack([1 - one, one]), CrfConfig())
    if labels[:, 4:].all() and not labels[:, :4].any():
        yield fine("dense crf", "works")
    else:
        yield problem(
            "dense crf",
            "separates black from white wrongly",
            "pip install --force-reinstall --no-binary :all: pydensecrf2",
        )


def temporary_space() -> Iterator[Finding]:
    """Where tars for object stores are built, and Ray keeps its session."""
    folder = Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"ovamgen")
    free = shutil.disk_usage(folder).free
    text = f"{folder}: {readable_bytes(free)} free"
    if free < _SMALL_TEMPORARY_BYTES:
        yield warning("temporary", text, "make room, or set TMPDIR to a larger disk")
    else:
        yield fine("temporary", text)
