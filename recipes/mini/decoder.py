"""Training of the decoder that makes pictures out of the fixed latents.

The loss is the mean absolute error of pixels plus that of their differences to the right and below,
so edges count. Pictures come from the composer, numbered without end: none is seen twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from recipes.mini.autoencoder import build_autoencoder, decoder_parameters
from recipes.mini.averages import averaged, start_averages, update_averages
from recipes.mini.checkpoints import has_checkpoint, read_checkpoint, write_checkpoint
from recipes.mini.composites import Composer
from recipes.mini.journal import PROBE_LOG, append_row
from recipes.mini.latents import LatentSpace, psnr
from recipes.mini.loop import step_generator
from recipes.mini.model import autocast, image_order
from recipes.mini.optimizers import NetworkOptimizer
from recipes.mini.probed import train
from recipes.mini.probes import tile
from recipes.mini.settings import DecoderSettings

Pictures = Float[torch.Tensor, "B 3 128 128"]


@dataclass(slots=True)
class DecoderState:
    """A decoder's training between two steps."""

    settings: DecoderSettings
    autoencoder: Any
    optimizer: NetworkOptimizer
    ema: list[torch.Tensor]
    step: int = 0
    samples: int = 0

    @contextmanager
    def averaged(self) -> Iterator[Any]:
        """The autoencoder with the decoder's means as weights, for the time of the block."""
        with averaged(self.ema, decoder_parameters(self.autoencoder)):
            yield self.autoencoder

    def save(self, folder: Path) -> None:
        """Writes the checkpoint."""
        write_checkpoint(
            folder,
            {
                "settings": asdict(self.settings),
                "step": self.step,
                "samples": self.samples,
                "autoencoder": self.autoencoder.state_dict(),
                "ema": self.ema,
                "optimizer": self.optimizer.state_dict(),
            },
        )


def open_decoder(
    folder: Path,
    space: LatentSpace,
    device: torch.device,
    settings: DecoderSettings | None = None,
) -> DecoderState:
    """The decoder's training in the folder, resumed where it has a checkpoint, else new.

    Args:
        folder: of the run.
        space: the latents to be decoded.
        device: to put the autoencoder on.
        settings: asked for now; where not given, the checkpoint's, or the defaults.
    """
    content = read_checkpoint(folder, device) if has_checkpoint(folder) else None
    if settings is None:
        settings = DecoderSettings(**content["settings"]) if content else DecoderSettings()
    autoencoder = build_autoencoder(space, settings.seed)
    autoencoder.to(device, memory_format=image_order(device))
    parameters = decoder_parameters(autoencoder)
    networks = [(autoencoder.decoder, 1.0), (autoencoder.post_quant_conv, 1.0)]
    optimizer = NetworkOptimizer(networks, settings)
    state = DecoderState(
        settings=settings,
        autoencoder=autoencoder,
        optimizer=optimizer,
        ema=start_averages(parameters),
    )
    if content:
        autoencoder.load_state_dict(content["autoencoder"])
        optimizer.load_state_dict(content["optimizer"])
        state.ema = content["ema"]
        state.step, state.samples = content["step"], content["samples"]
    return state


class PictureStream(Dataset[UInt8[np.ndarray, "128 128 3"]]):
    """The composer's pictures by number, in practice without end."""

    def __init__(self, composer: Composer, start: int) -> None:
        """Begins with picture ``start``."""
        self._composer = composer
        self._start = start

    def __len__(self) -> int:
        """More than any training takes."""
        return 10**8

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "128 128 3"]:
        """Picture number ``start + index``."""
        return np.array(self._composer.compose(self._start + index).image)


class DecoderTrainer:
    """Takes training steps on a decoder."""

    def __init__(
        self,
        state: DecoderState,
        composer: Composer,
        space: LatentSpace,
        device: torch.device,
        processes: int = 0,
    ) -> None:
        """Begins at the state's place among the pictures; ``processes`` compose them ahead."""
        self.state = state
        self._space = space
        self._device = device
        loader = DataLoader(
            PictureStream(composer, state.samples),
            batch_size=state.settings.batch_size,
            num_workers=processes,
        )
        self._batches = iter(loader)

    def take_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradient norm (scalars on the device) of one step, which it takes."""
        state, settings = self.state, self.state.settings
        state.optimizer.set_rate(settings.rate(state.step))
        images = next(self._batches).numpy()
        generator = step_generator(settings.seed, state.step, self._device)
        latents = torch.from_numpy(self._space.encode(images)).to(self._device)
        amounts = torch.rand(len(latents), 1, 1, 1, generator=generator, device=self._device)
        noise = torch.randn(latents.shape, generator=generator, device=self._device)
        latents = latents + settings.latent_noise * amounts * noise
        with autocast(self._device):
            ordered = latents.contiguous(memory_format=image_order(self._device))
            decoded = state.autoencoder.decode(ordered).sample
        loss = reconstruction_loss(decoded.float(), to_pictures(images).to(self._device))
        torch.autograd.backward(loss)
        parameters = decoder_parameters(state.autoencoder)
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_norm)
        state.optimizer.step()
        state.step += 1
        state.samples += settings.batch_size
        update_averages(state.ema, parameters, settings.ema_decay, state.step)
        return loss.detach(), norm


def train_decoder_in(
    folder: Path,
    state: DecoderState,
    composer: Composer,
    space: LatentSpace,
    device: torch.device,
    held_out: UInt8[np.ndarray, "n 128 128 3"],
    *,
    until_step: int,
    probe_every: int,
    minutes: float | None = None,
    processes: int = 0,
    show: Callable[[str], None] = print,
) -> None:
    """Trains the decoder, writes its logs, and measures it now and then and at the end."""
    trainer = DecoderTrainer(state, composer, space, device, processes)

    def measure() -> str:
        with state.averaged() as autoencoder:
            decoded = decode(autoencoder, space.encode(held_out), device)
        quality = psnr(held_out, decoded)
        linear = psnr(held_out, space.decode(space.encode(held_out)))
        row: dict[str, object] = {"step": state.step, "samples": state.samples}
        append_row(folder / PROBE_LOG, {**row, "psnr_db": f"{quality:.3f}"})
        rows = np.concatenate([held_out[:16], decoded[:16]])
        Image.fromarray(tile(rows, columns=16)).save(folder / "reconstructions.png")
        return f"held-out PSNR {quality:.2f} dB, linear decoder {linear:.2f} dB"

    train(
        trainer,
        folder,
        until_step=until_step,
        probe_every=probe_every,
        probe=measure,
        minutes=minutes,
        show=show,
    )


@torch.no_grad()
def decode(
    autoencoder: Any, latents: Float[np.ndarray, "n channels 16 16"], device: torch.device
) -> UInt8[np.ndarray, "n 128 128 3"]:
    """Pictures of the latents, in float32."""
    parts = []
    for start in range(0, len(latents), 16):
        part = torch.from_numpy(latents[start : start + 16]).to(device)
        parts.append(autoencoder.decode(part).sample.clamp(-1, 1).cpu())
    pixels = (torch.cat(parts).permute(0, 2, 3, 1).numpy() + 1) * 127.5
    return pixels.round().astype(np.uint8)


def reconstruction_loss(decoded: Pictures, pictures: Pictures) -> Float[torch.Tensor, ""]:
    """Mean absolute error of pixels, plus that of their differences along rows and columns."""
    error = decoded - pictures
    along_columns = error[..., 1:, :] - error[..., :-1, :]
    along_rows = error[..., :, 1:] - error[..., :, :-1]
    return error.abs().mean() + along_columns.abs().mean() + along_rows.abs().mean()


def to_pictures(images: UInt8[np.ndarray, "B 128 128 3"]) -> Pictures:
    """RGB images as channels-first tensors in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
