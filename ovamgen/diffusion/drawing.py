"""A batch of images: queued on its device, on its way to the host in one copy, and as it came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from ovamgen.errors import SampleError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drawn:
    """One batch of images."""

    images: UInt8[np.ndarray, "B H W 3"]
    """Rounded to 8 bits; all zeros for a sample that failed."""
    unsafe: tuple[bool, ...]
    """The safety checker's verdicts; all False where none ran."""
    errors: tuple[SampleError | None, ...]
    """Why a sample is not usable, or None."""
    beside: tuple[np.ndarray, ...] = ()
    """What came back with the images."""
    decoded: Float[Tensor, "B 3 H W"]
    """As the VAE gave them, on the device."""

    @property
    def pixels(self) -> Float32[np.ndarray, "B H W 3"]:
        """The images before rounding, in [0, 1]; all zeros for a sample that failed."""
        pixels = _unit_range(self.decoded).cpu().numpy()
        pixels[[error is not None for error in self.errors]] = 0
        return pixels


class OneCopy:
    """Tensors of one device on their way to the host, as one copy that nobody waits for yet.

    Args:
        tensors: of numbers as wide as or narrower than those of the tensor before.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors])
        on_gpu = flat.device.type == "cuda"
        self._like = [(tensor.dtype, tensor.shape, tensor.nbytes) for tensor in tensors]
        self._bytes, self._arrived = flat, None
        if on_gpu:
            pinned = torch.empty(flat.shape, dtype=torch.uint8, pin_memory=True)
            self._bytes = pinned.copy_(flat, non_blocking=True)
            # a thread that waits for the event leaves its core to others
            self._arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch leaves it so
            self._arrived.record()

    def arrays(self) -> list[np.ndarray]:
        """The tensors as arrays, once they are here."""
        if self._arrived is not None:
            self._arrived.synchronize()
        found, start = [], 0
        for dtype, shape, nbytes in self._like:
            part = self._bytes[start : start + nbytes].view(dtype)
            found.append(part.reshape(shape).numpy())
            start += nbytes
        return found


class Drawing:
    """A batch that is queued on its device; `Synthesiser.receive` waits for it."""

    def __init__(
        self, latents: Float[Tensor, "B C h w"], decoded: Float[Tensor, "B 3 H W"]
    ) -> None:
        self.latents = latents
        self.decoded = decoded
        self._copy: OneCopy | None = None

    def send(self, *beside: Tensor) -> OneCopy:
        """What is read of the batch, on its way to the host, and other tensors with it.

        Args:
            beside: of numbers of at most 64 bits, the wider ones first.
        """
        if self._copy is None:
            broken = torch.stack([_count_broken(self.latents), _count_broken(self.decoded)])
            images = (_unit_range(self.decoded) * 255).round().to(torch.uint8)
            self._copy = OneCopy([broken, *beside, images])
        return self._copy


def _unit_range(decoded: Float[Tensor, "B 3 H W"]) -> Float32[Tensor, "B H W 3"]:
    return (decoded.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def _count_broken(values: Float[Tensor, "B ..."]) -> Int64[Tensor, " B"]:
    return (~torch.isfinite(values)).flatten(1).sum(1)
