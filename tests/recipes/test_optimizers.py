import numpy as np
import pytest
import torch

from ovamgen.errors import ConfigError
from recipes.mini.model import build_networks
from recipes.mini.optimizers import NetworkOptimizer
from recipes.mini.runs import open_run
from recipes.mini.settings import TrainSettings
from recipes.mini.state import new_state
from tests.recipes.conftest import SMALL

SETTINGS = TrainSettings(weight_decay=0.0)
RATE = 0.01


def optimizer_of(networks, settings):
    return NetworkOptimizer([(networks.unet, 1.0), (networks.text_encoder, 0.5)], settings)


def random_gradients(networks, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in networks.parameters():
        values = torch.randn(parameter.shape, generator=generator)
        parameter.grad = values.to(memory_format=torch.preserve_format)
    return [parameter.grad.clone() for parameter in networks.parameters()]


def moved(networks, optimizer):
    """Gradients, and how each parameter was moved by a step of them."""
    gradients = random_gradients(networks)
    before = [parameter.detach().clone() for parameter in networks.parameters()]
    optimizer.set_rate(RATE)
    optimizer.step()
    after = networks.parameters()
    return gradients, [new.detach() - old for new, old in zip(after, before, strict=True)]


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_updates_of_matrices_are_nearly_orthogonal_and_of_the_size_of_adamw(tokenizer, order):
    networks = build_networks(SMALL, tokenizer, 0)
    networks.unet.to(memory_format=order)
    gradients, steps = moved(networks, optimizer_of(networks, SETTINGS))
    names = [name for name, _ in networks.unet.named_parameters()]
    of_unet = zip(names, gradients, steps, strict=False)
    seen = 0
    for name, gradient, step in of_unet:
        if step.ndim < 2 or name.startswith(("conv_in", "conv_out")):
            continue
        rows, columns = len(step), step[0].numel()
        values = np.linalg.svd(step.flatten(1).numpy(), compute_uv=False)
        unit = RATE * 0.2 * max(rows, columns) ** 0.5
        # Five iterations lift all but the smallest singular values to about one.
        assert 0.5 * unit < np.quantile(values, 0.25) < values.max() < 1.4 * unit, name
        # downhill: against the gradient
        assert (step * gradient).sum() < 0
        seen += 1
    assert seen > 40


def test_what_is_no_matrix_moves_as_adamw_moves_it(tokenizer):
    """Its first step is the rate times the sign of the gradient."""
    networks = build_networks(SMALL, tokenizer, 0)
    gradients, steps = moved(networks, optimizer_of(networks, SETTINGS))
    names = [name for name, _ in networks.unet.named_parameters()]
    found = dict(zip(names, zip(gradients, steps, strict=True), strict=False))
    for name in ("conv_in.weight", "conv_out.bias", "conv_norm_out.weight"):
        gradient, step = found[name]
        assert torch.allclose(step, -0.5 * RATE * gradient.sign(), atol=RATE * 1e-3)


def test_adamw_alone_moves_everything_by_its_rate(tokenizer):
    adamw = TrainSettings(weight_decay=0.0, text_rate_share=0.5, optimizer="adamw")
    state = new_state(adamw, SMALL, tokenizer, "", torch.device("cpu"))
    gradients, steps = moved(state.networks, state.optimizer)
    in_unet = len(list(state.networks.unet.parameters()))
    for place, (gradient, step) in enumerate(zip(gradients, steps, strict=True)):
        share = 1.0 if place < in_unet else 0.5
        assert torch.allclose(step, -share * RATE * gradient.sign(), atol=RATE * 1e-2)


def test_a_run_keeps_its_optimizer(cache, tokenizer, tmp_path):
    cpu = torch.device("cpu")
    new_state(SETTINGS, SMALL, tokenizer, cache.digest, cpu).save(tmp_path)
    other = TrainSettings(weight_decay=0.0, optimizer="adamw")
    with pytest.raises(ConfigError, match="trained by muon, got adamw: name another run"):
        open_run(tmp_path, cache, tokenizer, cpu, other, change=True)
