"""What a check found (fine, worth knowing, or in the way), and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ovamgen.errors import OvamgenError

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    level: Level
    message: str
    fix: str = ""
    """What to do; never empty where there is something to do."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """As text for people."""
        mark = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}[self.level]
        fix = [f"{'':22}fix: {self.fix}"] if self.fix else []
        return [f"{mark}{self.check:14}{self.message}", *fix]


def fine(check: str, message: str) -> Finding:
    """The check passed."""
    return Finding(check=check, level="ok", message=message)


def warning(check: str, message: str, fix: str) -> Finding:
    """A run works, but not as well as it could, or not for sure."""
    return Finding(check=check, level="warning", message=message, fix=fix)


def problem(check: str, message: str, fix: str) -> Finding:
    """A run fails."""
    return Finding(check=check, level="problem", message=message, fix=fix)


def guarded(check: str, fix: str, examine: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What the check finds; an error of ours, or of an import, is a problem like any other.

    Args:
        check: its name.
        fix: of such an error, where its message does not say what to do.
        examine: the check.
    """
    try:
        yield from examine()
    except OvamgenError as error:
        yield problem(check, str(error), fix)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # broken installations fail in all these ways
        text = " ".join(str(error).split())
        yield problem(check, f"{type(error).__name__}: {text[:300]}", fix)
