"""Two banks as one, so that people can share the classes that they have learnt."""

from __future__ import annotations

import numpy as np

from ovamgen.attribution.token_bank import TAU, TAU_FROM, TokenBank
from ovamgen.classes.voc import VOC_CLASSES
from ovamgen.errors import ConfigError

_MODEL_KEYS = ("model_digest", "text_encoder")


def merge_banks(first: TokenBank, second: TokenBank, prefer: str | None = None) -> TokenBank:
    """The classes of both, VOC classes in the order of their ids and others after them.

    Entries of the provenance that agree stay; of those that differ, what belongs to a class goes
    with it, and the rest is kept under ``first.`` and ``second.``. A threshold that only one of
    them names is that of the merged bank.

    Args:
        first: a bank.
        second: a bank of the same model.
        prefer: ``first`` or ``second``: whose pair a class gets that both have with other numbers.

    Raises:
        ConfigError: widths, models or thresholds differ, or a class has two pairs, and nothing is
            preferred.
    """
    if prefer not in (None, "first", "second"):
        raise ConfigError(f"--prefer must be first or second, got {prefer}")
    if first.width != second.width:
        raise ConfigError(
            f"banks of one model have rows of one width, but {first.source} has {first.width} and "
            f"{second.source} {second.width}: merge banks of the same model"
        )
    for key in _MODEL_KEYS:
        said = first.provenance.get(key), second.provenance.get(key)
        if None not in said and said[0] != said[1]:
            raise ConfigError(
                f"banks of one model are expected, but {key} is {said[0]} in {first.source} and "
                f"{said[1]} in {second.source}: merge banks of the same model"
            )
    mine = dict(zip(first.class_names, first.pairs, strict=True))
    theirs = dict(zip(second.class_names, second.pairs, strict=True))
    conflicts = [
        name for name in mine if name in theirs and not np.array_equal(mine[name], theirs[name])
    ]
    if conflicts and prefer is None:
        raise ConfigError(
            f"both banks have other rows for {', '.join(conflicts)}: say whose with --prefer first "
            "or --prefer second"
        )
    if None not in (first.tau, second.tau) and first.tau != second.tau and prefer is None:
        raise ConfigError(
            f"the banks name other thresholds, tau {first.tau} and {second.tau}: say whose with "
            "--prefer first or --prefer second"
        )
    winner = second if prefer == "second" else first
    merged = theirs | mine if winner is first else mine | theirs
    order = {voc.name: voc.id for voc in VOC_CLASSES}
    names = sorted(merged, key=lambda name: (order.get(name, len(order) + 1), name))
    return TokenBank(
        class_names=tuple(names),
        pairs=np.stack([merged[name] for name in names]),
        provenance=_provenance(first, second, winner),
        source="the merged bank",
    )


def _provenance(first: TokenBank, second: TokenBank, winner: TokenBank) -> dict[str, str]:
    found = {}
    for key in sorted(first.provenance.keys() | second.provenance.keys()):
        mine, theirs = first.provenance.get(key), second.provenance.get(key)
        if mine == theirs and mine is not None:
            found[key] = mine
        elif key.startswith("class "):
            name = key.removeprefix("class ")
            owner = winner if name in winner.class_names else None
            value = theirs if mine is None else mine
            value = value if owner is None else owner.provenance.get(key)
            if value is not None:
                found[key] = value
        else:
            found |= {
                f"{side}.{key}": value
                for side, value in (("first", mine), ("second", theirs))
                if value is not None
            }
    # a shared digest must stay findable where only one of the banks says it
    for key in _MODEL_KEYS:
        for side in ("first", "second"):
            if key not in found and f"{side}.{key}" in found:
                found[key] = found.pop(f"{side}.{key}")
    # a bank has one threshold: that of the preferred one, where both name one
    owner = next((bank for bank in (winner, first, second) if bank.tau is not None), winner)
    for key in (TAU, TAU_FROM):
        for name in (key, f"first.{key}", f"second.{key}"):
            found.pop(name, None)
        if key in owner.provenance:
            found[key] = owner.provenance[key]
    found["merged_from"] = f"{first.sha256} {second.sha256}"
    return found
