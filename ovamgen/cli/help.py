"""``config``, and help that shows of each option what its configuration key says.

What a key may be, and is by default, is looked up when somebody asks; it stands nowhere else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand

from ovamgen.cli.options import AsJson
from ovamgen.console.log_format import show
from ovamgen.errors import ConfigError

if TYPE_CHECKING:
    from ovamgen.config.describe import KeyHelp

_SECTIONS = {
    "plan": "captions instances per_class limit seed shard_size batch_size",
    "model": "device",
    "synthesis": "steps guidance height width",
    "attribution": "tokens method branch head",
    "masks": "preset self_attention",
    "runtime": "workers runner",
}


class RunCommand(TyperCommand):
    """A command whose options are keys of a run."""

    # typer's own, which commands may ask for; a plain one of click comes else
    context_class = typer.Context
    keys: ClassVar[dict[str, str]] = {
        "model": "model.id",
        **{name: f"{part}.{name}" for part, names in _SECTIONS.items() for name in names.split()},
    }
    """By the option's name in Python."""
    _completed = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As typer does, with choices and defaults in the options' texts."""
        self.complete_help()
        super().format_help(ctx, formatter)

    def complete_help(self) -> None:
        """Adds to the options' texts the choices and defaults of their keys, once."""
        known = {} if self._completed else self.known_keys()
        self._completed = True
        for option in self.params:
            text = getattr(option, "help", None)
            key = known.get(self.keys.get(option.name or "", ""))
            if text is not None and key is not None and option.default is None:
                option.help = text + _choices(key, text) + _default(key, text)  # type: ignore[attr-defined]  # typer's

    def known_keys(self) -> dict[str, KeyHelp]:
        """All keys that an option may stand for."""
        from ovamgen.config.describe import run_keys

        return run_keys()


class PlanCommand(RunCommand):
    """A command whose preset is that of the captions."""

    keys: ClassVar[dict[str, str]] = {**RunCommand.keys, "preset": "plan.preset"}


class HeadCommand(RunCommand):
    """A command that trains a head: its steps and its preset are not those of a run."""

    keys: ClassVar[dict[str, str]] = {"device": RunCommand.keys["device"]}


class TrainCommand(RunCommand):
    """A command whose options are settings of a training."""

    keys: ClassVar[dict[str, str]] = {
        **{name: name for name in ["real_share", "size", "steps", "batch_size", "seed", "device"]},
        "crop": "crop_px",
    }

    def known_keys(self) -> dict[str, KeyHelp]:
        """Those of a training."""
        return _training_keys()


def config(
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="Only keys that begin so: masks, plan.s.")
    ] = "",
    training: Annotated[
        bool, typer.Option("--train", help="The keys of ovamgen train instead of a run's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print every key that --set and a YAML file take: type, default, what it does.

    Defaults are those of the preset 'paper'. A key that may be null is worked out where it is not
    given, as its text says.

    Example: `ovamgen config synthesis`

    Example: `ovamgen config --train --json`
    """
    from ovamgen.config.describe import run_keys

    keys = _training_keys() if training else run_keys()
    found = [key for key in keys.values() if key.key.startswith(prefix)]
    if not found:
        sections = ", ".join(sorted({name.partition(".")[0] for name in keys}))
        raise ConfigError(f"no key begins with '{prefix}': known are {sections}")
    if as_json:
        show(json.dumps([key.to_json() for key in found], indent=2))
        return
    for key in found:
        show(f"{key.key}  ({key.type}; default {key.default_text})\n    {key.description}")


def _training_keys() -> dict[str, KeyHelp]:
    from ovamgen.config.describe import describe
    from ovamgen.segmentor.settings import TrainSettings

    defaults = TrainSettings.model_construct().model_dump(mode="json")
    return {key.key: key for key in describe(TrainSettings, defaults)}


def _choices(key: KeyHelp, text: str) -> str:
    """The names that the key may be, but those that the text has already."""
    missing = [name for name in key.choices if name not in text]
    return f" One of {', '.join(key.choices)}." if missing else ""


def _default(key: KeyHelp, text: str) -> str:
    shown = key.default_text if key.default not in (None, "") else ""
    return f" [default: {shown}]" if shown and "default" not in text else ""
