"""A CUDA device that is not there: real numbers on the CPU under tensors that say they are on it.

`PretendedCuda` runs every operation on the CPU, refuses those that a real device would refuse, and
takes note of what makes host and device wait for each other. A tensor is on the device by its
Python type alone: builds of torch without CUDA have no place for its own ``cuda`` tensors.
"""

from __future__ import annotations

import copy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

import ovamgen

DEVICE = torch.device("cuda:0")

_aten = torch.ops.aten
_READS = {
    _aten._local_scalar_dense,
    _aten.equal,
    _aten.nonzero,
    _aten.masked_select,
    _aten._unique2,
}
"""What a device cannot answer without the host waiting for it, copies apart."""
_INDEXED = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
"""What takes indices from the host, and copies them for it."""
_INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
_OWN = Path(ovamgen.__file__).parent


class DeviceTensor(torch.Tensor):
    """A tensor on the pretended device; only `PretendedCuda` can work with it."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> DeviceTensor:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",
        )
        made.inner = inner
        return made

    @property
    def device(self) -> torch.device:
        return DEVICE

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_meta(self) -> bool:
        return False

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on the pretended device, outside of PretendedCuda")


class PretendedCuda(TorchDispatchMode):
    """While active there is a CUDA device, and what crosses to and from it is counted.

    Counters are by line: that of ovamgen's that led to it, or of the library where none did.
    """

    # torch asks no driver about a device while a mode of this kind is active
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()
        """Times that the host waited for the device."""
        self.uploads: Counter[str] = Counter()
        """Copies from the host to the device."""
        self.sent: Counter[str] = Counter()
        """Copies to pinned memory of the host that nobody waited for."""
        self.waits = 0
        """Events that were waited for: one for each copy that was sent."""
        self._pinned: set[int] = set()
        self._factories = _Factories()

    def __enter__(self) -> PretendedCuda:
        self._event, torch.cuda.Event = torch.cuda.Event, lambda **_: _Event(self)
        self._factories.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._factories.__exit__(*error)
        torch.cuda.Event = self._event

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = any(isinstance(tensor, DeviceTensor) for tensor in tensors)
        kind = func.overloadpacket
        to_device = there
        inner_kwargs = tree_map(_inner, kwargs)
        if kwargs.get("device") is not None:
            # inside of torch the device goes by the name that it has there
            to_device = torch.device(kwargs["device"]).type in (DEVICE.type, "meta")
            inner_kwargs["device"] = "cpu"
        pin = bool(inner_kwargs.pop("pin_memory", None))
        if kind is _aten._to_copy:
            self._crossing(there, to_device, waits=True)
            inner_kwargs.pop("non_blocking", None)
        elif kind is _aten.copy_:
            target, source = args[0], args[1]
            to_device = isinstance(target, DeviceTensor)
            asynchronous = id(target) in self._pinned and bool((*args, *kwargs.values())[2:])
            self._crossing(isinstance(source, DeviceTensor), to_device, waits=not asynchronous)
        elif there:
            self._check(func, kind, args, tensors)
        result = func(*tree_map(_inner, args), **inner_kwargs)
        if pin:
            self._pinned.add(id(result))
        if not to_device:
            return args[0] if kind is _aten.copy_ else result
        wrapped = tree_map(_on_device, result)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)

    def _crossing(self, from_device: bool, to_device: bool, *, waits: bool) -> None:
        if from_device and not to_device:
            (self.reads if waits else self.sent)[_place()] += 1
        elif to_device and not from_device:
            self.uploads[_place()] += 1

    def _check(self, func: Any, kind: Any, args: Any, tensors: list[torch.Tensor]) -> None:
        """Counts what an operation on device tensors makes wait; refuses tensors of the host."""
        if kind in _READS:
            self.reads[_place()] += 1
        # a device takes a number of the host's as an argument, whatever it is wrapped in
        strange = [t for t in tensors if not isinstance(t, DeviceTensor) and t.dim() > 0]
        if kind in _INDEXED:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype == torch.bool for index in indices):
                self.reads[_place()] += 1
            if strange:
                self.uploads[_place()] += len(strange)
            allowed = isinstance(args[0], DeviceTensor)
        else:
            allowed = not strange
        if not allowed:
            raise RuntimeError(f"{func} was given tensors of the device and of the host")


class _Factories(TorchFunctionMode):
    """Tensors made of numbers, lists as indices too: torch makes them on the host and copies them.

    It does so where no mode sees it, and for a device that this build has not.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _INDEXING and isinstance(args[0], DeviceTensor):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(i).to(DEVICE) if isinstance(i, list) else i for i in index)
            return func(args[0], index, *args[2:])
        device = kwargs.get("device")
        if func not in (torch.tensor, torch.as_tensor) or device is None:
            return func(*args, **kwargs)
        if isinstance(args[0], torch.Tensor):
            return args[0].to(device, kwargs.get("dtype"))
        return func(*args, **kwargs | {"device": "cpu"}).to(device)


class _Event:
    def __init__(self, mode: PretendedCuda) -> None:
        self._mode = mode
        self._recorded = False

    def record(self) -> None:
        self._recorded = True

    def synchronize(self) -> None:
        assert self._recorded
        self._mode.waits += 1


def to_device(module: Any) -> Any:
    """A copy of a module with its parameters and buffers on the pretended device."""
    moved = copy.deepcopy(module)
    with PretendedCuda():
        for part in moved.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    held = DeviceTensor(parameter.data)
                    part._parameters[name] = torch.nn.Parameter(held, requires_grad=False)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = DeviceTensor(buffer)
    return moved


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, DeviceTensor) else value


def _on_device(value: Any) -> Any:
    return DeviceTensor(value) if isinstance(value, torch.Tensor) else value


def _place() -> str:
    """``engine.py synthesise`` of ovamgen, or the library's own place where a line of it did it."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "torch" not in path.parts and path != Path(__file__):
            folder = path.parent.name if _OWN in path.parents else f"({path.parent.name})"
            return f"{folder}/{path.name} {frame.f_code.co_name} {frame.f_lineno}"
        frame = frame.f_back
    return "?"
