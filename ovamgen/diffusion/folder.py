"""A local folder in diffusers format, checked before anything heavy is imported.

Every component must be there and readable, and its weights must be whole safetensors files: a
pickle is refused by name, a truncated download is found from the header. No torch, no diffusers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ovamgen.bounds import (
    MAX_MODEL_CONFIG_BYTES,
    MAX_MODEL_LIST,
    MAX_MODEL_SIZES,
    MAX_TOKENIZER_BYTES,
)
from ovamgen.console.wording import listed
from ovamgen.diffusion.facts import ModelFacts, facts_of
from ovamgen.diffusion.families import FAMILIES, SIZE_IDS, Family, why_unsupported
from ovamgen.errors import ConfigError
from ovamgen.storage.plain_files import read_given
from ovamgen.storage.plain_json import load_plain_json

_SCHEDULER = "scheduler/scheduler_config.json"
_WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
    "safety_checker": "model",
}
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def check_folder(folder: Path, model: str, variant: str | None, *, safety: bool) -> ModelFacts:
    """The facts of a folder whose files are all there and whole.

    Args:
        folder: holds ``model_index.json``.
        model: the model as it was asked for, for messages and facts.
        variant: weight files to prefer, such as ``fp16``; at least one component must have them.
        safety: the safety checker is wanted, so its files are checked too.

    Raises:
        ConfigError: names the folder and the file at fault.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"model folder {folder} does not exist: give a folder in diffusers format, a file "
            "(.safetensors), a hub id, 'mini', or random weights such as 'random:sd15'"
        )
    index = _read_json(folder, "model_index.json")
    family = family_named(f"model folder {folder}", index)
    has_checker = family.has_checker and _is_named(index, "safety_checker")
    configs: dict[str, Any] = {}
    variants = 0
    checker = ("safety_checker",) * (safety and has_checker)
    for component in ("unet", "vae", *family.text_encoders, *checker):
        if not _is_named(index, component):
            raise ConfigError(f"model folder {folder}: model_index.json names no {component}")
        configs[component] = _read_json(folder, f"{component}/config.json")
        _check_numbers(folder, f"{component}/config.json", configs[component])
        variants += _check_weights(folder, component, variant)
    if variant is not None and not variants:
        raise ConfigError(
            f"model folder {folder} holds no weights of the variant '{variant}': "
            "leave model.variant away, or get those files"
        )
    _check_numbers(folder, _SCHEDULER, _read_json(folder, _SCHEDULER))
    for tokenizer in family.tokenizers:
        _check_tokenizer(folder, tokenizer)
    if safety and has_checker:
        _read_json(folder, "feature_extractor/preprocessor_config.json")
    return _facts(folder, model, family, configs, safety_checker=has_checker)


def family_of(folder: Path) -> Family:
    """The family that the folder's ``model_index.json`` names.

    Raises:
        ConfigError: it names none, or one that cannot be drawn with.
    """
    return family_named(f"model folder {folder}", _read_json(folder, "model_index.json"))


def settings_of(folder: Path) -> dict[str, Any]:
    """What the folder's ``model_index.json`` says of the pipeline as a whole, and we make use of.

    Raises:
        ConfigError: a setting is not usable.
    """
    index = _read_json(folder, "model_index.json")
    zeros = index.get("force_zeros_for_empty_prompt", True)
    if not isinstance(zeros, bool):
        raise ConfigError(
            f"model folder {folder}: force_zeros_for_empty_prompt in model_index.json must be true "
            f"or false, got {zeros!r:.80}"
        )
    return {"force_zeros_for_empty_prompt": zeros}


def family_named(place: str, index: dict[str, Any]) -> Family:
    """The family that a ``model_index.json`` names.

    Args:
        place: what the file belongs to, for messages.
        index: its content.

    Raises:
        ConfigError: it names none, or one that cannot be drawn with.
    """
    kind = index.get("_class_name")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        name = " ".join(str(kind).split())[:80]
        raise ConfigError(f"{place} holds a {name}, which {why_unsupported(name)}")
    return family


def _facts(
    folder: Path, model: str, family: Family, configs: dict[str, Any], *, safety_checker: bool
) -> ModelFacts:
    unet, vae = configs["unet"], configs["vae"]
    texts = [configs[name] for name in family.text_encoders]
    try:
        facts = facts_of(model, unet, vae, texts, safety_checker=safety_checker)
        widths = (int(unet["cross_attention_dim"]), sum(int(text["hidden_size"]) for text in texts))
        channels = (int(unet.get("in_channels", 4)), int(vae.get("latent_channels", 4)))
    except KeyError as error:
        raise ConfigError(f"model folder {folder}: a config.json lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model folder {folder}: a config.json is not usable: {error}") from None
    if widths[0] != widths[1]:
        places = listed(f"{name}/config.json" for name in family.text_encoders)
        raise ConfigError(
            f"model folder {folder}: unet/config.json expects text rows of width {widths[0]}, "
            f"{places} {'give' if len(texts) > 1 else 'gives'} {widths[1]}: the parts are of "
            "different models"
        )
    if channels[0] != channels[1]:
        raise ConfigError(
            f"model folder {folder}: unet/config.json takes {channels[0]} channels, the VAE has "
            f"{channels[1]}: a text-to-image UNet is needed, not an inpainting or depth one"
        )
    _check_conditions(folder, family, unet, vae, texts[-1])
    return facts


def _check_conditions(
    folder: Path,
    family: Family,
    unet: dict[str, Any],
    vae: dict[str, Any],
    pooled: dict[str, Any],
) -> None:
    """Checks that the UNet takes what its family's pipeline gives it, and nothing more."""
    wanted = "text_time" if family.size_ids else None
    taken = {"addition_embed_type": wanted, "class_embed_type": None, "encoder_hid_dim_type": None}
    for name, value in taken.items():
        if unet.get(name) != value:
            raise ConfigError(
                f"model folder {folder}: {name} in unet/config.json must be {value or 'null'} in a "
                f"{family.pipeline}, got {unet.get(name)!r:.80}"
            )
    if vae.get("latents_mean") is not None or vae.get("shift_factor") is not None:
        raise ConfigError(
            f"model folder {folder}: vae/config.json shifts the latents, which the VAE of Stable "
            "Diffusion 1.x, 2.x and XL does not: such models cannot be drawn with"
        )
    if not family.size_ids:
        return
    ids, width = unet.get("addition_time_embed_dim"), pooled.get("projection_dim")
    given = unet.get("projection_class_embeddings_input_dim")
    # numbers in bounds they are: `_check_numbers` has looked at them
    if None in (ids, width, given) or SIZE_IDS * int(ids or 0) + int(width or 0) != given:
        raise ConfigError(
            f"model folder {folder}: projection_class_embeddings_input_dim in unet/config.json "
            f"must be {SIZE_IDS} * addition_time_embed_dim + projection_dim of the last text "
            f"encoder, got {given} for {ids} and {width}: the parts are of different models"
        )


def _is_named(index: dict[str, Any], component: str) -> bool:
    entry = index.get(component)
    return isinstance(entry, list) and len(entry) == 2 and None not in entry


def _read_json(folder: Path, name: str, most_bytes: int = MAX_MODEL_CONFIG_BYTES) -> dict[str, Any]:
    try:
        data = load_plain_json(read_given(folder / name, most_bytes))
    except FileNotFoundError:
        raise ConfigError(
            f"model folder {folder} lacks {name}: a folder in diffusers format is needed, as "
            "save_pretrained() or a snapshot of the hub makes it"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ConfigError(f"model folder {folder}: {name} is not readable JSON: {reason}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"model folder {folder}: {name} must hold an object, got {data!r:.40}")
    return data


def _check_numbers(folder: Path, name: str, config: dict[str, Any]) -> None:
    """Checks the numbers that decide how much is built: that goes before any weight is seen."""
    for key, value in config.items():
        listed = isinstance(value, list)
        if listed and len(value) > MAX_MODEL_LIST:
            raise ConfigError(
                f"model folder {folder}: {key} in {name} must be a list of at most "
                f"{MAX_MODEL_LIST}, got {len(value)}"
            )
        largest = MAX_MODEL_SIZES.get(key)
        if largest is None or value is None:
            continue
        for number in value if listed else [value]:
            for each in number if isinstance(number, list) else [number]:
                if type(each) is not int or not 0 < each <= largest:
                    raise ConfigError(
                        f"model folder {folder}: {key} in {name} must be from 1 to {largest}, got "
                        f"{each!r:.80}"
                    )


def _check_tokenizer(folder: Path, name: str) -> None:
    place = folder / name
    size = sum(path.stat().st_size for path in place.glob("*") if path.is_file())
    if size > MAX_TOKENIZER_BYTES:
        raise ConfigError(
            f"model folder {folder}: the files of the {name} must have at most "
            f"{MAX_TOKENIZER_BYTES} bytes, they have {size}"
        )
    if (place / "tokenizer.json").is_file():
        _read_json(folder, f"{name}/tokenizer.json", MAX_TOKENIZER_BYTES)
        return
    _read_json(folder, f"{name}/vocab.json", MAX_TOKENIZER_BYTES)
    if not (place / "merges.txt").is_file():
        raise ConfigError(f"model folder {folder} lacks {name}/merges.txt")


def _check_weights(folder: Path, component: str, variant: str | None) -> bool:
    """True where the variant's files are there; other files serve where they are not."""
    stem = _WEIGHTS[component]
    for suffix in ([f".{variant}"] if variant else []) + [""]:
        single = folder / component / f"{stem}{suffix}.safetensors"
        sharded = f"{component}/{stem}.safetensors.index{suffix}.json"
        if single.is_file():
            check_safetensors(single, folder)
            return bool(suffix)
        if (folder / sharded).is_file():
            weight_map = _read_json(folder, sharded).get("weight_map")
            if not isinstance(weight_map, dict) or not weight_map:
                raise ConfigError(f"model folder {folder}: {sharded} names no weight files")
            for name in weight_map.values():
                if not isinstance(name, str) or name != Path(name).name:
                    raise ConfigError(
                        f"model folder {folder}: {sharded} must name files beside it, got "
                        f"{name!r:.80}"
                    )
            for name in sorted(set(weight_map.values())):
                check_safetensors(folder / component / name, folder)
            return bool(suffix)
    found = sorted(path.name for path in (folder / component).iterdir())
    pickles = [name for name in found if name.endswith(_PICKLES)]
    if pickles:
        raise ConfigError(
            f"model folder {folder}: {component}/{pickles[0]} is a pickle, safetensors expected: "
            "convert the model with save_pretrained(safe_serialization=True)"
        )
    raise ConfigError(
        f"model folder {folder} lacks {component}/{stem}.safetensors (there are: "
        f"{', '.join(found)})"
    )


def check_safetensors(path: Path, folder: Path) -> None:
    """Checks that the file's header is sound and that its tensors are all there.

    Args:
        path: the weights file.
        folder: the model folder, for messages.

    Raises:
        ConfigError: the file is missing, is no safetensors file, or ends too early.
    """
    name = path.relative_to(folder)
    try:
        with safe_open(path, "numpy"):
            pass
    except OSError as error:
        raise ConfigError(f"model folder {folder}: {name} cannot be read: {error}") from None
    except SafetensorError as error:
        raise ConfigError(
            f"model folder {folder}: {name} is no whole safetensors file ({error}): get it again; "
            "a file of git-lfs pointers needs `git lfs pull`"
        ) from None
