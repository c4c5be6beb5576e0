"""Pipelines by name: `mini`, random weights as `random:sd15`, a folder, a file or a hub id.

`check_model` says within milliseconds what is wrong with a name; `load_pipeline` loads it.
Importing this module imports neither torch nor diffusers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ovamgen import mini
from ovamgen.config import DEFAULT_MODEL, ModelConfig, RunConfig
from ovamgen.console.wording import nearest
from ovamgen.diffusion.architectures import ARCHITECTURES
from ovamgen.diffusion.facts import ModelFacts, is_clip_vit_l14
from ovamgen.diffusion.families import FAMILIES, SD, Family
from ovamgen.diffusion.folder import check_folder, family_named
from ovamgen.diffusion.lora import check_loras
from ovamgen.diffusion.single_file import check_file, is_single_file
from ovamgen.errors import ConfigError
from ovamgen.records import ModelInfo

__all__ = ["LoadedPipeline", "ModelFacts", "check_model", "has_clip_vit_l14", "load_pipeline"]

log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HASH_THREADS = 4
_FACTS = ("height", "width", "vae_scale_factor", "context_width", "cross_attention_layers")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedPipeline:
    """A pipeline on its device, and what it says of itself."""

    pipe: Any
    """A diffusers pipeline of one of `FAMILIES` in evaluation mode, its weights frozen."""
    info: ModelInfo

    @property
    def family(self) -> Family:
        """What the pipeline has in common with others of its class."""
        return FAMILIES[type(self.pipe).__name__]

    @property
    def safety_checker(self) -> Any:
        """The safety checker, or None where the pipeline has none."""
        return getattr(self.pipe, "safety_checker", None)

    def with_parts(self, **parts: Any) -> LoadedPipeline:
        """A pipeline with other parts in place of its own; all others are shared."""
        from ovamgen.diffusion.loading import assemble

        zeros = getattr(self.pipe.config, "force_zeros_for_empty_prompt", None)
        settings = {} if zeros is None else {"force_zeros_for_empty_prompt": zeros}
        pipe = assemble(self.family, self.pipe.components | parts, **settings)
        pipe.set_progress_bar_config(disable=True)
        return replace(self, pipe=pipe)


def check_model(model: ModelConfig, *, safety: bool = False) -> ModelFacts:
    """What the model will be, from its files' headers; torch and diffusers are not imported.

    Args:
        model: which model.
        safety: the safety checker is wanted, so its files are checked too.

    Raises:
        ConfigError: no such model, or a folder with a missing, damaged or pickled file, by name; a
            LoRA that is not for it.
    """
    facts = _facts(model, safety=safety)
    check_loras(model.loras, facts)
    return facts


def _facts(model: ModelConfig, *, safety: bool) -> ModelFacts:
    """The facts of a model, of which LoRAs change none."""
    if is_single_file(model.id):
        return check_file(model).architecture.facts(model.id)
    if model.prediction != "auto":
        raise ConfigError(
            f"model.prediction '{model.prediction}' is for a model in one file, model '{model.id}' "
            "says itself what its UNet predicts: leave model.prediction away"
        )
    architecture = ARCHITECTURES.get(model.id)
    if architecture is not None:
        return architecture.facts(model.id)
    if not _is_hub_id(model.id):
        return check_folder(_folder(model), model.id, model.variant, safety=safety)
    return _cached_facts(model, safety=safety) or ModelFacts(model=model.id)


def has_clip_vit_l14(model: ModelConfig, facts: ModelFacts) -> bool:
    """Whether the text encoder is of the form of CLIP ViT-L/14; asks the hub where it must.

    Args:
        model: which model.
        facts: what `check_model` says of it.

    Raises:
        ConfigError: the model is not here, and the hub does not answer.
    """
    if facts.clip_vit_l14 is not None:
        return facts.clip_vit_l14
    if model.id == DEFAULT_MODEL:
        return True
    # the first of XL's two text encoders is of that form as well
    if family_named(f"model {model.id}", _hub_json(model, "model_index.json")) is not SD:
        return False
    return is_clip_vit_l14(_hub_json(model, "text_encoder/config.json"))


def load_pipeline(model: ModelConfig, *, safety: bool = False) -> LoadedPipeline:
    """The model on its device, with the digest of its weights.

    A hub id is taken from the cache where it is there and downloaded otherwise; only safetensors
    are read.

    Args:
        model: which model, in which precision, on which device.
        safety: load the safety checker too, where the model has one.

    Raises:
        ConfigError: no such model or device; the message says what to do.
    """
    # "auto" is resolved where the whole configuration is known
    model = RunConfig(model=model).model
    _check_device(model)
    _quieten()
    import torch

    pipe, facts, revision = _load(model, getattr(torch, model.dtype), safety=safety)
    if model.loras:
        from ovamgen.diffusion.lora_fusing import fuse_loras

        check_loras(model.loras, facts)
        fuse_loras(pipe, model.loras)
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    digest = digest_weights(pipe)
    pipe.to(model.device)
    # only a hub id that is not there yet leaves facts open
    known: dict[str, Any] = {name: getattr(facts, name) for name in _FACTS}
    trained = model.id not in ARCHITECTURES
    info = ModelInfo(model=model.id, revision=revision, digest=digest, trained=trained, **known)
    return LoadedPipeline(pipe=pipe, info=info)


def _load(model: ModelConfig, dtype: Any, *, safety: bool) -> tuple[Any, ModelFacts, str]:
    """The pipeline without LoRAs, its facts, and the commit of a hub id, else ""."""
    if is_single_file(model.id):
        from ovamgen.diffusion.single_file_loading import load_single_file

        found = check_file(model)
        return load_single_file(found, dtype=dtype), found.architecture.facts(model.id), ""
    architecture = ARCHITECTURES.get(model.id)
    if architecture is not None:
        from ovamgen.diffusion.random_weights import build_pipeline

        return build_pipeline(architecture, dtype=dtype), architecture.facts(model.id), ""
    from ovamgen.diffusion.loading import load_folder

    is_on_hub = _is_hub_id(model.id)
    folder = _snapshot(model, safety=safety) if is_on_hub else _folder(model)
    facts = check_folder(folder, model.id, model.variant, safety=safety)
    checked = safety and bool(facts.safety_checker)
    pipe = load_folder(folder, variant=model.variant, dtype=dtype, safety=checked)
    # the folder of a snapshot is named after its commit, whatever name was asked for
    return pipe, facts, folder.name if is_on_hub else ""


def _is_hub_id(name: str) -> bool:
    if name == mini.NAME or name in ARCHITECTURES or Path(name).expanduser().exists():
        return False
    return _HUB_ID.fullmatch(name) is not None


def _folder(model: ModelConfig) -> Path:
    """The local folder of a name that is no hub id; a name near one of ours is pointed out."""
    if model.id == mini.NAME:
        return mini.MODEL
    folder = Path(model.id).expanduser()
    if not folder.exists():
        built_in = nearest(model.id, [mini.NAME, *ARCHITECTURES])
        raise ConfigError(
            f"model '{model.id}' is neither built in nor a folder{built_in} (a folder in diffusers "
            "format, a file that ends in .safetensors, or a hub id such as owner/name, will do as "
            "well)"
        )
    return folder


def _check_device(model: ModelConfig) -> None:
    import torch

    if model.device == "cuda" and not torch.cuda.is_available():
        built = "this build of torch has no CUDA" if torch.version.cuda is None else "none is seen"
        raise ConfigError(
            f"model '{model.id}' was asked for on cuda, but there is no CUDA device ({built}; "
            f"torch {torch.__version__}): use a machine with a GPU, or --device cpu"
        )


def _quieten() -> None:
    """No progress bars and no notices: stderr is for our log."""
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    disable_progress_bars()


def _hub_json(model: ModelConfig, name: str) -> dict[str, Any]:
    """The content of a small file of a hub id, which is downloaded where it is not here."""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(model.id, name, revision=model.revision)
        data = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(_not_available(model, str(error))) from None
    return data if isinstance(data, dict) else {}


def _cached_facts(model: ModelConfig, *, safety: bool) -> ModelFacts | None:
    """Facts of a hub id in the cache; None where it is to be downloaded first."""
    from huggingface_hub import constants, snapshot_download

    try:
        folder = snapshot_download(model.id, revision=model.revision, local_files_only=True)
        return check_folder(Path(folder), model.id, model.variant, safety=safety)
    except (OSError, ValueError, ConfigError) as error:
        if constants.HF_HUB_OFFLINE:
            raise ConfigError(_not_available(model, str(error))) from None
    return None


def _snapshot(model: ModelConfig, *, safety: bool) -> Path:
    """The folder of a hub id in the cache, filled from the hub where it is not complete."""
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import EntryNotFoundError

    skipped: dict[str, Any] = {}
    if not safety:
        skipped = {"safety_checker": None, "feature_extractor": None}
    reason = ""
    for local in (True, False):
        if not local:
            # gigabytes of what cannot be drawn with are not worth the wait
            family_named(f"model {model.id}", _hub_json(model, "model_index.json"))
            log.info("downloading %s (%s)", model.id, model.revision or "newest revision")
        try:
            folder = DiffusionPipeline.download(
                model.id,
                revision=model.revision,
                variant=model.variant,
                use_safetensors=True,
                local_files_only=local,
                **skipped,
            )
            check_folder(Path(folder), model.id, model.variant, safety=safety)
            return Path(folder)
        except (OSError, ValueError, AttributeError, EntryNotFoundError, ConfigError) as error:
            reason = str(error)
    raise ConfigError(_not_available(model, reason))


def _not_available(model: ModelConfig, reason: str) -> str:
    reason = " ".join(reason.split())[:200]
    at = f"@{model.revision}" if model.revision else ""
    return (
        f"model {model.id}{at} is not in the cache and could not be downloaded ({reason}): "
        "go online (HF_HUB_OFFLINE unset, HF_TOKEN where it is private), or give a local folder"
    )


def digest_weights(pipe: Any) -> str:
    """sha256 over UNet, text encoders and VAE: a line of name, dtype, shape, digest per tensor."""
    tensors = {
        f"{part}.{name}": tensor
        for part in ("unet", *FAMILIES[type(pipe).__name__].text_encoders, "vae")
        for name, tensor in getattr(pipe, part).state_dict().items()
    }

    def line(name: str) -> bytes:
        import torch

        tensor = tensors[name].detach().cpu().contiguous()
        digest = hashlib.sha256(tensor.flatten().view(torch.uint8).numpy()).hexdigest()
        return f"{name} {tensor.dtype} {list(tensor.shape)} {digest}\n".encode()

    # hashing lets other threads run, and gigabytes of weights are worth it
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        return hashlib.sha256(b"".join(pool.map(line, sorted(tensors)))).hexdigest()
