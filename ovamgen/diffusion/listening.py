"""Everything that listens to a drawing: sinks of attention, and sinks of block features.

Whoever asks for neither costs nothing: a `FeatureRecorder` is opened only for a sink that takes
features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from ovamgen.diffusion.features import FeatureRecorder, FeatureSink
from ovamgen.diffusion.recorder import Listener, recording


@contextlib.contextmanager
def listening(unet: Any, guided: bool, listeners: Sequence[Listener]) -> Iterator[None]:
    """A context in which every UNet call feeds all the sinks with what they take.

    A sink of features (`FeatureSink`) is given those of both halves, and no queries.

    Args:
        unet: a diffusers UNet2DConditionModel.
        guided: the batch holds both halves.
        listeners: sinks, and the half whose queries each is given.

    Raises:
        MethodError: a half does not exist, or the UNet has not what is asked for.
    """
    attending = [one for one in listeners if not isinstance(one[0], FeatureSink)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(recording(unet, guided, attending))
        for sink, _ in listeners:
            if isinstance(sink, FeatureSink):
                stack.enter_context(FeatureRecorder(unet, guided, sink))
        yield
