"""Which mask settings stored heatmaps can be taken to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovamgen.attribution.token_bank import open_bank
from ovamgen.config import AS_KEYS, RunConfig, build_config, load_preset
from ovamgen.corpus.open import Corpus
from ovamgen.errors import ConfigError
from ovamgen.shards.output_files import RUN_NAME

_OF_THE_METHOD = ("received", "affinity")
"""Self-attention factors that are in the stored heatmaps already, and need the model."""


def new_config(
    corpus: Corpus,
    preset: str | None,
    overrides: Mapping[str, Any],
    given_as: Mapping[str, str] = AS_KEYS,
) -> RunConfig:
    """The run's configuration with new mask settings, resolved.

    Args:
        corpus: with the settings of its run.
        preset: mask preset, or None for the run's own settings.
        overrides: fields of the section ``masks``.
        given_as: what complaints call a key that was given otherwise.

    Raises:
        ConfigError: no such preset or field, a value that is not allowed, or settings that stored
            heatmaps cannot be taken to.
    """
    saved = corpus.run_info.get("config")
    if not isinstance(saved, dict):
        raise ConfigError(
            f"expected the folder of a run with its {RUN_NAME}, got {corpus.store.url}: the mask "
            "settings that the run was made with stand there"
        )
    if saved.get("shards", {}).get("heatmaps") is False:
        raise ConfigError(
            f"the run in {corpus.store.url} stored no heatmaps: masks can be made again only from "
            "those; make the corpus with 'ovamgen generate --set shards.heatmaps=true'"
        )
    before = build_config(saved)
    masks: dict[str, Any] = {"preset": preset} if preset else dict(saved["masks"])
    # a threshold and its background channel say the same thing twice: the new one is meant
    for given, other in (("tau", "beta"), ("beta", "tau")):
        if given in overrides:
            masks.pop(other, None)
    config = build_config({**saved, "masks": {**masks, **overrides}}, given_as=given_as)
    if config.masks.tau is None:
        try:
            config, _ = open_bank(config)
        except ConfigError as error:
            raise ConfigError(
                f"the preset {preset} leaves the threshold to the tokens: {error}; or give --tau "
                f"(the run had {before.masks.tau})"
            ) from None
    _check_possible(before, config, load_preset(preset) if preset else {})
    return config


def _check_possible(before: RunConfig, after: RunConfig, preset: Mapping[str, Any]) -> None:
    method = preset.get("attribution", {}).get("method", before.attribution.method)
    if method != before.attribution.method:
        raise ConfigError(
            f"the preset {after.masks.preset} is for heatmaps of {method}, those of this corpus "
            f"are of {before.attribution.method}: give another preset"
        )
    old, new = before.masks, after.masks
    fixed = []
    if old.self_attention in _OF_THE_METHOD or new.self_attention in _OF_THE_METHOD:
        fixed.append("self_attention")
    if old.self_attention == "received":
        fixed += ["normalisation", "self_attention_low"]
    if old.self_attention == "affinity":
        fixed += ["self_attention_power", "self_attention_positions"]
    if old.normalisation == "min-max":
        fixed.append("normalisation")
    for name in fixed:
        was, wanted = getattr(old, name), getattr(new, name)
        if was != wanted:
            raise ConfigError(
                f"masks.{name} {wanted} cannot be had from the stored heatmaps, which were made "
                f"with {was}: make the corpus with it, or leave it as it was with --set "
                f"masks.{name}={was}"
            )
