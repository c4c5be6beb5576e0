"""Which tokens stand for the classes of a run, once the model's files can be read; no torch."""

from __future__ import annotations

from ovamgen import mini
from ovamgen.attribution.token_bank import TokenBank, check_covers, open_bank
from ovamgen.config import SHIPPED, RunConfig, TokenSource, lacks
from ovamgen.console.wording import listed
from ovamgen.diffusion.pipeline import check_model, has_clip_vit_l14


def open_tokens(config: RunConfig, *, of_all: bool = True) -> tuple[RunConfig, TokenBank | None]:
    """The configuration with its tokens chosen and their thresholds, and the bank that was read.

    Args:
        config: resolved.
        of_all: all classes of the configuration are to be attributed.

    Raises:
        ConfigError: no such model or bank, or they do not fit each other or the classes.
    """
    facts = check_model(config.model)
    if config.attribution.token_source.kind == "auto":
        chosen = TokenSource.of_text_encoder(
            config.classes,
            config.attribution.missing,
            clip_vit_l14=has_clip_vit_l14(config.model, facts),
        )
        config = config.with_tokens(chosen)
    config, bank = open_bank(config, width=facts.context_width)
    if bank is not None and of_all:
        check_covers(bank, config.classes.classes, config.attribution.missing)
    return config, bank


def tokens_in_words(config: RunConfig, bank: TokenBank | None, *, asked: bool) -> str:
    """What stands for the classes, why, and with which thresholds: one line for people.

    Args:
        config: tokens chosen, thresholds known.
        bank: what was read of them.
        asked: somebody asked for these tokens; else they were chosen.
    """
    source, masks = config.attribution.token_source, config.masks
    threshold = f"threshold tau {masks.tau:g}, {masks.tau_from}"
    if source.untrained:
        return f"tokens: pairs that nobody has optimised; {threshold}"
    if bank is None:
        own = "own" if config.model.id == mini.NAME else "voc-sd15"
        absent = lacks(SHIPPED[own].class_names, config.classes.classes)
        of = listed(absent) or "this text encoder"
        why = f"no tokens ship for {of}; 'ovamgen tokens optimize' learns them"
        if asked and not absent:
            why = "as asked"
        return f"no tokens: classes by their words ({why}); threshold tau {masks.tau:g}"
    shipped = SHIPPED.get(source.name)
    told = shipped.told if shipped else source.name
    text = f"tokens: {told}; {threshold}"
    if lacking := lacks(bank.class_names, config.classes.classes):
        text += f"; {listed(lacking)} by words, tau {masks.taus(lacking)[0]:g}"
    return text
