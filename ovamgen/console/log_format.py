"""How lines on stderr are written: as text for people, or one JSON object a line for programs.

The format is one of the whole process, like stderr itself. Results go to stdout by `show`, so that
all that is printed passes `printable`.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import sys
import traceback
from math import isfinite
from types import TracebackType
from typing import Any

FORMATS = ("text", "json")
VARIABLE = "OVAMGEN_LOG_FORMAT"

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
"""What controls a terminal or turns the direction of text, and what is half a character."""
_is_json = False


def use_log_format(name: str) -> str:
    """The format, set for the rest of the process: of Python's own log and warnings, too.

    Args:
        name: of `FORMATS`; "" is text.

    Raises:
        ValueError: another name.
    """
    global _is_json
    if name not in (*FORMATS, ""):
        raise ValueError(f"expected {' or '.join(FORMATS)} for the log format, got '{name}'")
    _is_json = name == "json"
    logging.lastResort = _TextHandler(logging.WARNING)
    if _is_json:
        logging.captureWarnings(True)
        logging.basicConfig(handlers=[_JsonHandler()], level=logging.WARNING, force=True)
        sys.excepthook = _tell_exception
    return name


def use_log_format_of_environment() -> None:
    """The format that ``OVAMGEN_LOG_FORMAT`` asks for; an unknown one is text."""
    asked = os.environ.get(VARIABLE, "")
    use_log_format(asked if asked in FORMATS else "")


def is_json() -> bool:
    """Whether lines are JSON: then there are no bars and no colours."""
    return _is_json


def say(text: str, *, level: str = "info", event: str = "message", **fields: Any) -> None:
    """One line on stderr.

    Args:
        text: for people.
        level: ``info``, ``warning`` or ``error``.
        event: what kind of line it is, for programs.
        fields: what it says, as values that JSON has; text shows the text alone.
    """
    if _is_json:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        head = {"time": now, "level": level, "event": event, "message": printable(text)}
        # Infinity and NaN are no JSON, though Python writes them
        sound = {
            k: str(v) if isinstance(v, float) and not isfinite(v) else v for k, v in fields.items()
        }
        text = json.dumps(head | sound, ensure_ascii=False, default=str)
    print(printable(text), file=sys.stderr, flush=True)


def show(text: str, *, end: str = "\n") -> None:
    """Prints a result on stdout; whatever it holds, it controls no terminal."""
    print(printable(text), end=end, flush=True)


def printable(text: str) -> str:
    """The text without colours, and without characters that control a terminal or turn text round.

    Captions, reasons of failures and names of files reach messages; tabs and line ends stay.
    """
    return _CONTROL.sub("\ufffd", _COLOUR.sub("", text))


class _TextHandler(logging.Handler):
    """Records of Python's log as text, where nobody has set up another handler."""

    def emit(self, record: logging.LogRecord) -> None:
        print(printable(record.getMessage()), file=sys.stderr, flush=True)


class _JsonHandler(logging.Handler):
    """Records of Python's log as our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
        fields = {"logger": record.name}
        if record.exc_info:
            fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        say(record.getMessage(), level=level, event="log", **fields)


def _tell_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    say(
        f"{kind.__name__}: {error}",
        level="error",
        event="defect",
        traceback="".join(traceback.format_exception(kind, error, trace)),
    )
