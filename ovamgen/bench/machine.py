"""What a measurement depends on beside the program: processor, threads, versions, load."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ovamgen import __version__

_LIBRARIES = ("diffusers", "transformers", "numpy", "pillow", "pydensecrf2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine and the versions, without any name of a host or user."""

    cpu: str
    """Model name."""
    logical_cores: int
    torch_threads: int
    load_1min: float
    """Processes that wanted a core in the last minute before the measurement; -1.0 if unknown."""
    gpu: str
    """Name of the CUDA device, "" where there is none."""
    gpu_memory_bytes: int
    cuda: str
    """Version that torch was built for, "" for none."""
    python: str
    torch: str
    ovamgen: str
    libraries: dict[str, str]
    """Versions by name, "" where a library is not installed."""

    @classmethod
    def here(cls) -> Machine:
        """This one, with the number of threads that torch is set to now."""
        gpu, memory = "", 0
        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(torch.cuda.current_device())
            gpu, memory = properties.name, properties.total_memory
        return cls(
            cpu=_cpu_name(),
            logical_cores=os.cpu_count() or 0,
            torch_threads=torch.get_num_threads(),
            load_1min=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1.0,
            gpu=gpu,
            gpu_memory_bytes=memory,
            cuda=torch.version.cuda or "",
            python=".".join(map(str, sys.version_info[:3])),
            torch=torch.__version__,
            ovamgen=__version__,
            libraries={name: _version(name) for name in _LIBRARIES},
        )

    def line(self) -> str:
        """One line for a table's caption."""
        device = self.gpu or self.cpu
        return (
            f"{device}, {self.logical_cores} logical cores, {self.torch_threads} threads, "
            f"torch {self.torch}, load {self.load_1min}"
        )


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
