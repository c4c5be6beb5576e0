"""What verification says of an output: its state, and every file that is not as it must be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ovamgen.console.wording import counted
from ovamgen.errors import VerificationError
from ovamgen.shards.output_files import Layout

Kind = Literal["missing", "damaged", "orphan", "leftover"]
"""``damaged``: there, with another content than the rest of the output says. ``orphan``: a file
that nothing in the output knows. ``leftover``: scratch of a process that is gone."""

MAX_FINDINGS_OF_A_SHARD = 12
"""A shard of garbage has as many things wrong as it has samples: the first few say it all."""

_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One file that is not as it must be."""

    file: str
    kind: Kind
    expected: str
    found: str
    shard: int | None = None
    """Index of the shard that the file belongs to."""

    def line(self) -> str:
        """For people."""
        line = f"{self.kind:9}{self.file}: expected {self.expected}, got {self.found}"
        # names of files and texts are whoever's: none of them begins a line
        return line.replace("\n", "\\n")


class Findings:
    """The findings of one shard or of the files beside the shards, in the order they were made."""

    def __init__(self, shard: int | None = None, most: int | None = None) -> None:
        """Keeps at most so many; what comes after is counted."""
        self._shard = shard
        self._most = most
        self._kept: dict[Finding, None] = {}
        """In order; of a corpus without any right file there is one for each."""
        self._left_out = 0

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, file: str, expected: str, found: str | Exception, kind: Kind = "damaged") -> None:
        """Take note of something; the same thing twice counts once."""
        finding = Finding(
            file=file,
            kind=kind,
            expected=_short(expected),
            found=_short(found if isinstance(found, str) else instead(found)),
            shard=self._shard,
        )
        if finding in self._kept:
            return
        if self._most is not None and len(self._kept) >= self._most:
            self._left_out += 1
            return
        self._kept[finding] = None

    def all(self) -> tuple[Finding, ...]:
        """What was kept, and how much was left out."""
        if not self._left_out:
            return tuple(self._kept)
        *first, last = self._kept
        more = f"{last.found} (and {self._left_out} more in this shard)"
        return (*first, Finding(**{**asdict(last), "found": more}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found in an output; counts are of samples unless they say otherwise."""

    out: str
    layout: Layout
    state: Literal["planned", "unfinished", "complete"]
    """How far the run is, whatever is damaged; an output of another kind is always complete."""
    running: bool
    """A process holds the lock: what is being written may look unfinished."""
    shards: int = 0
    """Shards that there must be in the end."""
    shards_without_record: tuple[int, ...] = ()
    """Their indices, ascending."""
    shards_checked: int = 0
    """Whose tar was read."""
    samples: int = 0
    failed: int = 0
    bytes_checked: int = 0
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """What was not looked at, and why."""
    mend: str = ""
    """The command that finishes or mends the output; "" where there is nothing to do."""

    @property
    def ok(self) -> bool:
        """Everything that was planned is there, and nothing is damaged or foreign."""
        return not self.findings and self.state == "complete"

    @property
    def shards_there(self) -> int:
        """Shards that have a record."""
        return self.shards - len(self.shards_without_record)

    @property
    def damaged_shards(self) -> tuple[int, ...]:
        """Indices of the shards with a finding, ascending."""
        return tuple(sorted({f.shard for f in self.findings if f.shard is not None}))

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        data = asdict(self)
        return {
            **data,
            "ok": self.ok,
            "shards_there": self.shards_there,
            "damaged_shards": list(self.damaged_shards),
        }

    def lines(self) -> list[str]:
        """As text for people: the state, the findings, and at the end the command that mends."""
        going_on = ", a run is going on" if self.running else ""
        verdict = counted(len(self.findings), "finding") if self.findings else "nothing wrong"
        text = [
            f"{self.out}: {self.layout}, {self.state}{going_on}, {verdict}",
            f"  shards   {self.shards_checked} checked of {self.shards_there} there, "
            f"{self.shards} in all",
            f"  samples  {self.samples}, {self.failed} recorded as failed",
            f"  read     {self.bytes_checked / 1e6:.1f} MB",
        ]
        if self.state != "complete" and self.shards_without_record:
            text.append(f"  to make  shards {index_ranges(self.shards_without_record)}")
        text += [f"  {finding.line()}" for finding in self.findings[:_SHOWN]]
        if len(self.findings) > _SHOWN:
            text.append(f"  ... and {len(self.findings) - _SHOWN} more, see --json")
        text += [f"  note     {note}" for note in self.notes]
        if self.mend:
            text.append(f"  {self.mend}")
        return text

    def check(self) -> None:
        """Raises where the output is not whole.

        Raises:
            VerificationError: something is damaged, missing or foreign, or the run has not ended.
        """
        if self.findings:
            found = counted(len(self.findings), "finding")
            raise VerificationError(f"{self.out} is not as it must be: {found}; {self.mend}")
        if self.state != "complete":
            raise VerificationError(
                f"{self.out} is not finished: {len(self.shards_without_record)} of {self.shards} "
                f"shards are still to be made; {self.mend or 'a run is going on'}"
            )


def instead(error: Exception) -> str:
    """What was found where the error came up, so that it can stand behind "got"."""
    return f"nothing of the kind: {error}"


def index_ranges(indices: Sequence[int], most: int = 12) -> str:
    """Ascending indices as text: ``0 to 3, 7``; what is beyond so many ranges is left out."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    told = [f"{a}" if a == b else f"{a} to {b}" for a, b in ranges[:most]]
    return ", ".join(told + ["..."] * (len(ranges) > most))


def _short(text: str, most: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]} ..."
