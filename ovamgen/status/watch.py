"""The status of an output, shown again and again until its run is complete."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from ovamgen.console.log_format import is_json, say, show
from ovamgen.errors import ShardError
from ovamgen.status.status import NotBegunError, RunStatus, StatusReader

if TYPE_CHECKING:
    from rich.console import RenderableType


def watch(
    url: str,
    *,
    every_seconds: float,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> RunStatus:
    """The last status: that of the complete corpus.

    On a terminal the screen is refreshed; otherwise there is a line on stdout for each look. A run
    that has died or has not begun is waited for: the same command may be given again. So is an
    output that is not there yet: a cluster takes minutes to begin what was just submitted.

    Args:
        url: the output.
        every_seconds: between two looks.
        as_json: lines are JSON objects.
        sleep: how to wait.

    Raises:
        ConfigError: the URL names no store, or ``run.yaml`` is damaged.
        ShardError: the first look fails; a later one that fails is told, and made again.
    """
    reader = StatusReader(url)
    status = _first(reader, every_seconds, sleep)
    if as_json or is_json() or not sys.stdout.isatty():
        return _lines(reader, status, every_seconds, as_json, sleep)
    from rich.live import Live

    with Live(_picture(status), auto_refresh=False) as live:
        while not _is_over(status):
            sleep(every_seconds)
            status = _again(reader, status)
            live.update(_picture(status), refresh=True)
    return status


def _first(reader: StatusReader, every_seconds: float, sleep: Callable[[float], None]) -> RunStatus:
    is_told = False
    while True:
        try:
            return reader.read()
        except NotBegunError:
            if not is_told:
                say(
                    f"waiting for a run that writes to {reader.store.url}: there is no plan yet "
                    "(Ctrl-C ends the waiting)",
                    event="waiting",
                )
            is_told = True
            sleep(every_seconds)


def _lines(
    reader: StatusReader,
    status: RunStatus,
    every_seconds: float,
    as_json: bool,
    sleep: Callable[[float], None],
) -> RunStatus:
    while True:
        show(json.dumps(asdict(status)) if as_json else status.line())
        if _is_over(status):
            return status
        sleep(every_seconds)
        status = _again(reader, status)


def _again(reader: StatusReader, before: RunStatus) -> RunStatus:
    try:
        return reader.read()
    except (ShardError, NotBegunError) as error:
        say(f"ovamgen: {error}", level="warning", event="unreadable")
        return before


def _is_over(status: RunStatus) -> bool:
    """Every shard is there, and nobody writes indexes any more."""
    return status.state == "complete" and not status.running


def _picture(status: RunStatus) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    ended = status.samples_made + status.samples_failed + status.samples_in_open_shards
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    bar.add_column(justify="right")
    bar.add_row(
        ProgressBar(total=max(status.samples_planned, 1), completed=ended),
        f"{ended}/{status.samples_planned}",
    )
    # names and reasons come from files: text, never markup
    return Group(*(Text(line) for line in status.lines()), bar)
