"""A pipeline out of a folder, every weight of which came from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
)

from ovamgen.diffusion.families import Family
from ovamgen.diffusion.folder import family_of, settings_of
from ovamgen.errors import ConfigError
from ovamgen.tokenizer import tokenizer_kind

_BROKEN_FOLDER = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
    RecursionError,
)
"""What the libraries raise on configurations of other values than they write."""


TEXT_ENCODERS: dict[str, Any] = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
"""Class of each text encoder; XL's UNet takes a pooled and projected text of the second one."""


def assemble(family: Family, parts: dict[str, Any], **settings: Any) -> Any:
    """The family's pipeline of these components.

    Args:
        family: decides the class.
        parts: every component of it, by name.
        settings: what ``model_index.json`` says of the pipeline as a whole.
    """
    kind: Any = getattr(diffusers, family.pipeline)
    if family.has_checker:
        return kind(**parts, requires_safety_checker=False)
    unchecked = {name: part for name, part in parts.items() if name != "safety_checker"}
    return kind(**unchecked, **settings)


def load_folder(folder: Path, *, variant: str | None, dtype: torch.dtype, safety: bool) -> Any:
    """The pipeline of a folder that was checked, on the CPU.

    The parts are loaded one by one, since only so do the libraries tell which weights a file
    lacked: they would be random, and nothing else would show it.

    Args:
        folder: in diffusers format.
        variant: weight files to prefer where a part has them, such as ``fp16``.
        dtype: of all weights, but float32 for a VAE that cannot be had in float16.
        safety: load the safety checker, which must be there.

    Raises:
        ConfigError: names the folder and what is wrong with it.
    """
    family = family_of(folder)
    classes: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        **{name: TEXT_ENCODERS[name] for name in family.text_encoders},
    }
    if safety:
        classes["safety_checker"] = StableDiffusionSafetyChecker
    parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
    try:
        for name, kind in classes.items():
            parts[name] = _load_part(kind, folder, name, variant, dtype)
        own = vae_dtype(family, parts["vae"], dtype)
        if own != dtype:
            # once more: what was rounded to halves stays rounded
            parts["vae"] = _load_part(classes["vae"], folder, "vae", variant, own)
        for name, encoder in zip(family.tokenizers, family.text_encoders, strict=True):
            parts[name] = _load_tokenizer(folder / name, parts[encoder])
        parts["scheduler"] = _load_scheduler(folder)
        if safety:
            extractor = folder / "feature_extractor"
            parts["feature_extractor"] = CLIPImageProcessor.from_pretrained(extractor)
    except _BROKEN_FOLDER as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"model folder {folder} cannot be loaded: {reason}") from None
    return assemble(family, parts, **settings_of(folder))


def vae_dtype(family: Family, vae: Any, dtype: torch.dtype) -> torch.dtype:
    """The precision of a VAE in a pipeline of this one: float32 where float16 would overflow.

    Args:
        family: only XL's pipeline heeds what the VAE says.
        vae: says so with ``force_upcast``.
        dtype: of the other parts.
    """
    overflows = family.size_ids and bool(vae.config.force_upcast)
    return torch.float32 if dtype == torch.float16 and overflows else dtype


def _load_part(kind: Any, folder: Path, name: str, variant: str | None, dtype: torch.dtype) -> Any:
    has_variant = variant is not None and any((folder / name).glob(f"*.{variant}*"))
    part, report = kind.from_pretrained(
        folder / name,
        torch_dtype=dtype,
        variant=variant if has_variant else None,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigError(
            f"model folder {folder}: the weights of {name} lack {len(missing)} tensors, "
            f"first {missing[0]}: the folder was made for another architecture, or is damaged"
        )
    return part


def _load_tokenizer(place: Path, text_encoder: Any) -> Any:
    # CLIPTokenizer would read the file of another kind as a BPE without merges
    kind = CLIPTokenizer if tokenizer_kind(place) == "BPE" else PreTrainedTokenizerFast
    tokenizer = kind.from_pretrained(place)
    # where none is stated, transformers takes texts to be endless; the table of positions is not
    tokenizer.model_max_length = min(
        tokenizer.model_max_length, text_encoder.config.max_position_embeddings
    )
    return tokenizer


def _load_scheduler(folder: Path) -> Any:
    # its noise schedule is what counts: drawings make the scheduler that the run names out of it
    config = diffusers.PNDMScheduler.load_config(folder / "scheduler")
    name = config.get("_class_name")
    kind: Any = getattr(diffusers, str(name), diffusers.PNDMScheduler)
    if not _is_scheduler(kind):
        raise ConfigError(
            f"model folder {folder}: scheduler/scheduler_config.json must name a scheduler of "
            f"diffusers, got {name!r:.80}"
        )
    return kind.from_config(config)


def _is_scheduler(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)
