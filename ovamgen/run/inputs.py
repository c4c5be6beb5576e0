"""What a run depends on, looked at before anything is loaded or written: model, tokens, captions.

Whoever needs to know whether a configuration can be run, or what its samples depend on, asks here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ovamgen import mini
from ovamgen.config import NO_SCHEDULER, RunConfig, SynthesisConfig, check_method
from ovamgen.console.progress import tracked
from ovamgen.diffusion.facts import check_size_ids
from ovamgen.diffusion.lora import lora_file
from ovamgen.diffusion.pipeline import ModelFacts, check_model
from ovamgen.errors import ConfigError
from ovamgen.plan.picture_plan import LabelSize, plan_pictures
from ovamgen.plan.planning import Plan, make_plan, plan_settings
from ovamgen.storage.pictures import open_picture_source
from ovamgen.storage.reading import read_file
from ovamgen.storage.retrying import RemoteError

DEMO_CAPTIONS = "demo"
"""The name of the captions that ship with the package."""


def check_inputs(config: RunConfig) -> RunConfig:
    """The configuration with its tokens chosen, once all that it names was looked at.

    Raises:
        ConfigError: the model, the method, the scheduler, the tokens or the head are not usable, or
            the tokens are not for this model.
    """
    from ovamgen.engine.token_choice import open_tokens

    check_model_size(config)
    check_method(config.attribution.method)
    if config.synthesis.scheduler not in (SynthesisConfig().scheduler, NO_SCHEDULER):
        # diffusers is slow to import, and the default is known to be there
        from ovamgen.diffusion.schedulers import scheduler_class

        scheduler_class(config.synthesis.scheduler)
    if config.attribution.head_file is not None:
        from ovamgen.attribution.trained_head import open_head

        open_head(config)
    return open_tokens(config)[0]


def check_model_size(config: RunConfig, *, safety: bool = False) -> ModelFacts:
    """What the model's files say of it, once it is known that it can draw images of this size.

    Args:
        config: names the model and the size.
        safety: look at the files of its safety checker as well.

    Raises:
        ConfigError: no such model, a damaged file, far larger images than it was made for, or size
            ids that it does not take.
    """
    facts = check_model(config.model, safety=safety)
    facts.check_size(config.synthesis.height, config.synthesis.width)
    if config.synthesis.original_size is not None or config.synthesis.crop is not None:
        check_size_ids(config.model.id, facts.size_ids)
    return facts


def image_size(config: RunConfig) -> tuple[int, int]:
    """(height, width) of the run's images in pixels; where no model can be found, a likely one."""
    height, width = config.synthesis.height, config.synthesis.width
    try:
        facts = check_model(config.model)
        height, width = height or facts.height, width or facts.width
    except ConfigError:
        # this is for estimates alone: a run, and the doctor, say what is wrong with the model
        pass
    return height or 512, width or 512


def plan_for(config: RunConfig, after: Plan | None = None) -> Plan:
    """The plan of a configuration; reads the captions.

    Args:
        config: resolved.
        after: the plan that it extends, if any: what is planned there is not planned again.

    Raises:
        ConfigError: no captions are named.
        PlanError: they cannot be planned.
    """
    if config.label.pictures:
        return _plan_of_pictures(config)
    if not config.plan.captions:
        raise ConfigError(
            "no captions were given and the output holds no plan: use --captions FILE, or "
            f"--captions {DEMO_CAPTIONS} for those that ship with ovamgen"
        )
    settings = config.plan.model_copy(update={"captions": captions_path(config.plan.captions)})
    return make_plan(
        settings,
        classes=config.classes,
        model_id=config.model.id,
        append_class_words=config.synthesis.append_class_words,
        after=after,
    )


def _plan_of_pictures(config: RunConfig) -> Plan:
    facts = check_model(config.model)
    own = (facts.height or 512, facts.width or 512)
    asked = (config.synthesis.height, config.synthesis.width)
    height, width = (ask or side for ask, side in zip(asked, own, strict=True))
    size = LabelSize(
        height=height,
        width=width,
        step=max(8, facts.vae_scale_factor or 8),
        fixed=None not in asked,
    )
    source = open_picture_source(config.label.pictures)
    settings = config.plan.model_copy(update={"captions": captions_path(config.plan.captions)})
    return plan_pictures(settings, source, size, classes=config.classes, track=tracked)


def settings_of_plan(config: RunConfig) -> dict[str, Any]:
    """What decides the plan of a configuration beside its inputs and classes."""
    return plan_settings(config.plan, append_class_words=config.synthesis.append_class_words)


def captions_path(name: str) -> str:
    """The path of the captions: ``demo`` is a file of the package, ``mini`` a table of pictures."""
    if name == mini.NAME:
        return str(mini.VOC / "captions.csv")
    if name != DEMO_CAPTIONS:
        return name
    return str(resources.files("ovamgen") / "data" / "demo_captions.csv")


def named_inputs(config: RunConfig, plan: Plan) -> dict[str, str]:
    """sha256 by name of captions, instances and pictures that are named; or else the plan's."""
    pictures = config.label.pictures
    if not config.plan.captions and not pictures:
        return dict(plan.inputs)
    named = {"captions": config.plan.captions, "instances": config.plan.instances}
    found = {name: digest_of(captions_path(path)) for name, path in named.items() if path}
    return found | ({"pictures": open_picture_source(pictures).digest} if pictures else {})


def inputs_of(config: RunConfig, of_plan: Mapping[str, str]) -> dict[str, str]:
    """sha256 by name of every file that the samples of a run depend on, for its fingerprint.

    Args:
        config: names the token bank, the head and the LoRAs.
        of_plan: the same of what its plan was made of.

    Raises:
        ConfigError: the token bank, the head or a LoRA cannot be read.
    """
    attribution = config.attribution
    files = {
        "tokens": attribution.token_source.file,
        "head": attribution.head_file,
        **{f"lora_{i}": str(lora_file(lora)) for i, lora in enumerate(config.model.loras)},
    }
    read = {name: digest_of(file) for name, file in files.items() if file is not None}
    return {**of_plan, **read}


def digest_of(url: str) -> str:
    """sha256 (hex) of a file's bytes, local or remote.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return read_file(url, lambda file: hashlib.file_digest(file, "sha256").hexdigest())
    except RemoteError as error:
        raise ConfigError(f"{url} cannot be read: {error.explanation}") from None
