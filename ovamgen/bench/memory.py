"""Bytes of live tensors: where the device's allocator keeps no count, and of recording alone."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ovamgen.attribution.interface import HeatmapSink


class LiveTensorBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    """While active, follows the storages of all tensors that operations make.

    ``peak`` is the largest sum of bytes alive at once: what a device's allocator would have had to
    hold, without what lies in caches. For the CPU, where torch keeps no such count.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self.peak = 0
        self._live: dict[int, int] = {}
        self._sum = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result  # of what is followed already, or was there before
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            # what is changed in place has its storage already
            if storage._cdata not in self._live:
                self._live[storage._cdata] = storage.nbytes()
                self._sum += storage.nbytes()
                self.peak = max(self.peak, self._sum)
                weakref.finalize(storage, self._forget, storage._cdata).atexit = False
        return result

    def _forget(self, key: int) -> None:
        self._sum -= self._live.pop(key)


class TrafficBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    """While active, adds up what operations read and write: traffic of memory, if none is fused.

    A view moves nothing, and a tensor is read once by each operation that it is given to.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func is not torch.ops.aten._unsafe_view.default:
            moved = tree_leaves((args, kwargs, result))
            self.total += sum(part.nbytes for part in moved if isinstance(part, torch.Tensor))
        return result


class ScratchMeter:
    """A sink that passes queries on and follows what the inner sink makes of them meanwhile."""

    def __init__(self, inner: HeatmapSink) -> None:
        self.inner = inner
        self.scratch_bytes = 0
        """Most bytes alive at once that one update made; running sums it kept are among them."""
        self.traffic_bytes = 0
        """What all updates read and wrote."""

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Passes one layer's queries on."""
        with LiveTensorBytes() as live, TrafficBytes() as traffic:
            self.inner.update(layer, queries, size)
        self.scratch_bytes = max(self.scratch_bytes, live.peak)
        self.traffic_bytes += traffic.total

    @property
    def nbytes(self) -> int:
        """Bytes of maps: running sums and the largest scratch of an update."""
        return self.inner.nbytes + self.scratch_bytes
