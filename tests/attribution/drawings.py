"""Small drawings of the golden pipeline that several tests of methods listen to."""

import torch

from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.synthesis import Synthesiser
from tests.golden.reference import tiny_sd


def draw(listeners, prompts=("a photograph of a cat",), *, latents=None, **settings):
    """One drawing with several recorders on it, each (sink, branch)."""
    synthesiser = Synthesiser(
        tiny_sd(), SynthesisConfig(**{"steps": 1, "height": 64, "width": 128} | settings)
    )
    return synthesiser.draw(prompts, range(len(prompts)), listeners=listeners, latents=latents)


class AttentionInputs:
    """Hidden states and context of every UNet call's attention, by plain hooks of the test's own.

    Independent of the recorder: what a reference computation starts from.
    """

    def __init__(self, paths):
        self.calls = []
        self._paths = paths

    def __enter__(self):
        unet = tiny_sd().pipe.unet
        self._handles = [
            unet.get_submodule(path).register_forward_pre_hook(self._keep(path), with_kwargs=True)
            for path in self._paths
        ]
        return self

    def __exit__(self, *_):
        for handle in self._handles:
            handle.remove()

    def _keep(self, path):
        def hook(module, args, kwargs):
            context = kwargs.get("encoder_hidden_states")
            self.calls.append((path, args[0].clone(), None if context is None else context.clone()))

        return hook


def probabilities(path, hidden, context):
    """Softmax of one layer's scores by einsum, (B, N, P, L), in float64."""
    attention = tiny_sd().pipe.unet.get_submodule(path)
    rows = hidden if context is None else context
    with torch.no_grad():
        queries, keys = attention.to_q(hidden).double(), attention.to_k(rows).double()
    queries, keys = (x.unflatten(-1, (attention.heads, -1)) for x in (queries, keys))
    scores = torch.einsum("bpnd,blnd->bnpl", queries, keys) * queries.shape[-1] ** -0.5
    return scores.softmax(-1)
