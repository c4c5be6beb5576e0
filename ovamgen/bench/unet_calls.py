"""A UNet call with its maps as one pure function, so that it can be compiled or captured.

Hooks that add to running sums have side effects, which a compiler cuts a graph at and a replayed
graph does not repeat. Here a call returns the maps that it made, one tensor for each resolution,
and the sums are kept outside.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ovamgen.attribution.maps import MapSums
from ovamgen.attribution.ovam import PairMaps
from ovamgen.bench.combinations import Combination
from ovamgen.diffusion.recorder import Branch, CrossAttentionRecorder, cross_attention_layers

_GRAPH_WARMUP = 3

Maps = Mapping[tuple[int, int], Tensor]
"""Maps (B, P, K) that one call made, by (height, width) of their layers."""
UnetCall = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Maps]]
"""(latents, timestep, rows of text) -> (noise, maps)."""


def second_unet(unet: Any) -> Any:
    """The same network with the same weights in memory, and hooks of its own."""
    shared = {id(tensor): tensor for tensor in [*unet.parameters(), *unet.buffers()]}
    return copy.deepcopy(unet, shared)


class FastUnet:
    """Puts a compiled or captured call in place of a UNet's own ``forward``.

    Args:
        unet: of a pipeline; only this object changes, not its class. The recorded one needs its
            own object (`second_unet`): its hooks stay, and would be traced into a plain call.
        combination: its ``compile`` and ``graphs`` are looked at.
        pairs: what maps are recorded of, or None for a plain call.
        branch: the half of the guided batch that is recorded.
        backend: of torch.compile.
    """

    def __init__(
        self,
        unet: Any,
        combination: Combination,
        pairs: Float32[Tensor, "K 2 ctx"] | None,
        *,
        branch: Branch = "unconditional",
        guided: bool = True,
        backend: str = "inductor",
    ) -> None:
        self.sums = MapSums()
        """Sums over the calls since it was last replaced."""
        call = _plain(unet.forward)
        if pairs is not None:
            maps = PairMaps(cross_attention_layers(unet), pairs)
            CrossAttentionRecorder(unet, branch, guided, maps).__enter__()
            call = _recorded(unet.forward, maps)
        if "compile" in combination:
            call = torch.compile(call, fullgraph=True, dynamic=False, backend=backend)
        if "graphs" in combination:
            call = GraphedCall(call)
        self._call = call
        unet.forward = self._forward

    def _forward(
        self,
        sample: Float[Tensor, "rows C h w"],
        timestep: Any,
        encoder_hidden_states: Float[Tensor, "rows L ctx"],
        *,
        return_dict: bool = False,
        **others: object,
    ) -> tuple[Tensor]:
        """Stands in for a diffusers UNet's ``forward`` inside a pipeline."""
        if given := [name for name, value in others.items() if value is not None]:
            raise ValueError(f"a plain text-to-image call expected, got {', '.join(given)} as well")
        time = torch.as_tensor(timestep, device=sample.device)
        noise, maps = self._call(sample, time, encoder_hidden_states)
        for size, values in maps.items():
            # a replay writes to the same memory: what is kept, here or by the scheduler, is copied
            self.sums.add(values.clone(), size, 0)
        return (noise.clone(),)


def _plain(forward: Callable[..., Any]) -> UnetCall:
    def call(latents: Tensor, timestep: Tensor, text: Tensor) -> tuple[Tensor, Maps]:
        return forward(latents, timestep, encoder_hidden_states=text, return_dict=False)[0], {}

    return call


def _recorded(forward: Callable[..., Any], maps: PairMaps) -> UnetCall:
    # a function of its own: compiled code is kept by code object, and hooks are not looked at when
    # torch decides whether that of a plain call fits
    def call(latents: Tensor, timestep: Tensor, text: Tensor) -> tuple[Tensor, Maps]:
        maps.clear()
        noise = forward(latents, timestep, encoder_hidden_states=text, return_dict=False)[0]
        return noise, dict(maps.sums.by_size)

    return call


class GraphedCall:
    """A call captured as a CUDA graph at its first use, with the shapes that it then has.

    Args:
        call: what is captured; compiled code is compiled before.
    """

    def __init__(self, call: UnetCall) -> None:
        self._call = call
        self._graph: Any = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, Maps] | None = None

    def __call__(self, latents: Tensor, timestep: Tensor, text: Tensor) -> tuple[Tensor, Maps]:
        """The outputs' memory is the graph's own: the next call writes over it."""
        given = (latents, timestep, text)
        if self._outputs is None:
            self._capture(given)
        for static, value in zip(self._inputs, given, strict=True):
            static.copy_(value)
        self._graph.replay()
        assert self._outputs is not None
        return self._outputs

    def _capture(self, given: tuple[Tensor, Tensor, Tensor]) -> None:
        if given[0].device.type != "cuda":
            raise RuntimeError(f"CUDA graphs need a CUDA device, got {given[0].device.type}")
        self._inputs = inputs = tuple(tensor.clone() for tensor in given)
        # libraries allocate at their first calls, which a capture does not allow
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it so
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_GRAPH_WARMUP):
                self._call(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._call(*inputs)
