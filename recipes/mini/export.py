"""The trained networks as a folder that ``StableDiffusionPipeline.from_pretrained`` loads.

Safetensors, within the sizes that the package can carry: UNet and autoencoder in half precision,
which diffusers widens to float32 unless told otherwise; the small text encoder in float32, because
transformers 5 would leave it in the precision of its file, and the two would not fit.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline

from ovamgen.errors import OvamgenError
from recipes.mini.model import Networks, scheduler_config
from recipes.mini.workspace import require_new

MAX_FILE_BYTES = 16_000_000
MAX_TOTAL_BYTES = 25_000_000
_CREDITS = Path(__file__).with_name("CREDITS.md")


def export_pipeline(
    folder: Path, networks: Networks, autoencoder: Any, tokenizer: Any, card: str
) -> None:
    """Writes the model folder: five parts, ``model_index.json``, model card and credits.

    UNet and autoencoder are converted in place: they are of no use for training afterwards.

    Args:
        folder: new or empty.
        networks: with the weights to ship.
        autoencoder: likewise.
        tokenizer: of the captions.
        card: text of the model card, Markdown.

    Raises:
        ConfigError: the folder holds something.
        OvamgenError: a file or the whole is too large for the package.
    """
    require_new(folder)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder.half().eval(),
        text_encoder=networks.text_encoder.float().eval(),
        tokenizer=tokenizer,
        unet=networks.unet.half().eval(),
        scheduler=PNDMScheduler(**scheduler_config(), skip_prk_steps=True, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.to(device=torch.device("cpu"), memory_format=torch.contiguous_format)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name in ("model_index.json", "tokenizer/tokenizer_config.json"):
        # transformers 5 writes the name of a class that version 4 lacks; it reads this one too
        path = folder / name
        path.write_text(path.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    (folder / "README.md").write_text(card)
    shutil.copyfile(_CREDITS, folder / "CREDITS.md")
    check_sizes(folder)


def check_sizes(folder: Path) -> int:
    """Bytes of all files of the folder.

    Raises:
        OvamgenError: a file or the whole is larger than the package can carry.
    """
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for path, size in sizes.items():
        if size > MAX_FILE_BYTES:
            raise OvamgenError(
                f"a model file may have {MAX_FILE_BYTES} bytes, {path} has {size}: make it narrower"
            )
    if sum(sizes.values()) > MAX_TOTAL_BYTES:
        raise OvamgenError(
            f"the model may have {MAX_TOTAL_BYTES} bytes, {folder} has {sum(sizes.values())}: "
            "make the networks narrower"
        )
    return sum(sizes.values())
