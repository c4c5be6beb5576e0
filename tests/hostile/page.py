"""Outcomes of attacks as a table for a terminal, and as the page that shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.faults.table import commit_line
from tests.hostile.runner import LIMIT_MIB, LIMIT_SECONDS, Outcome
from tests.hostile.suite import ATTACKS, CASES

PAGE = "OVAMGEN_HOSTILE_PAGE"
"""Names the file that the outcomes are written to; nothing is written where it is not set."""
COMMAND = f"{PAGE}=docs/results/hostile.md python -m pytest tests/hostile -m 'slow or not slow'"
_COLUMNS = ("tried", "succeeds", "refused", "faults", "most seconds", "most MiB")


def table(outcomes: Iterable[Outcome]) -> list[str]:
    """Attacks by family and outcome, and a line for each that went wrong."""
    counts: dict[str, dict[str, int]] = {}
    lines = []
    for outcome in outcomes:
        family = counts.setdefault(outcome.attack.family, {})
        name = "FAULT" if outcome.faults else outcome.name
        family[name] = family.get(name, 0) + 1
        if outcome.faults:
            lines.append(f"  {outcome.attack.label} | {outcome.command}: {outcome.name}")
    names = sorted({name for family in counts.values() for name in family})
    head = f"{'':20}" + "".join(f"{name:>14}" for name in names)
    rows = [
        f"{family:20}" + "".join(f"{found.get(name, 0):14}" for name in names)
        for family, found in sorted(counts.items())
    ]
    total = {name: sum(found.get(name, 0) for found in counts.values()) for name in names}
    whole = f"{'all':20}" + "".join(f"{total[name]:14}" for name in names)
    return [head, *rows, whole, *lines]


def write_page(outcomes: Iterable[Outcome], path: Path, repository: Path) -> None:
    """Writes the page; rows of families that were not attacked now are kept as they were."""
    # the quick attacks are among the slow ones: a pair counts once
    found = {(o.attack.target, o.attack.label, o.command): o for o in outcomes}
    kept = map(_row_in, path.read_text("utf-8").splitlines()) if path.exists() else ()
    rows = {row[0]: row[1:] for row in kept if row}
    families: dict[str, list[Outcome]] = {}
    for outcome in found.values():
        families.setdefault(outcome.attack.family, []).append(outcome)
    rows |= {family: _row(inner) for family, inner in families.items()}
    all_pairs = Counter(attack.family for attack, _ in CASES)
    totals = [sum(int(row[i]) for row in rows.values()) for i in range(4)]
    most = [max(float(row[i]) for row in rows.values()) for i in (4, 5)]
    shown = sorted(rows.items())
    lines = [
        "# Attacks",
        "",
        "Everything that may come from somebody else was damaged or forged, and then read by every "
        "command that reads it, each time in a process of its own. *Succeeds*: nothing was wrong "
        "for that command. *Refused*: one line, and an exit code from 1 to 4. *Faults*: a "
        f"traceback, more than {LIMIT_SECONDS:.0f} seconds of processor time or {LIMIT_MIB} MiB, "
        "a change outside the output, a request to another machine, a program begun, code of the "
        "attacker's run, markup or control characters passed on. What is not counted as tried is "
        "not shown; rows of earlier commits are kept until they are measured again.",
        "",
        f"{len(ATTACKS)} attacks, {totals[0]:,} of {len(CASES):,} pairs of attack and command "
        f"tried: {totals[3]} faults.",
        "",
        f"{commit_line(repository)} Written by:",
        "",
        f"    {COMMAND}",
        "",
        f"| family | pairs | {' | '.join(_COLUMNS)} |",
        f"|---|{'---:|' * (1 + len(_COLUMNS))}",
    ]
    lines += [f"| {name} | {all_pairs[name]} | {' | '.join(row)} |" for name, row in shown]
    last = [f"{value:g}" for value in [*totals, *most]]
    lines.append(f"| **all** | {len(CASES)} | {' | '.join(last)} |")
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _row(outcomes: list[Outcome]) -> list[str]:
    """The cells of a family, in the order of the columns."""
    faults = sum(bool(o.faults) for o in outcomes)
    refused = sum(bool(o.code) and not o.faults for o in outcomes)
    seconds, mib = max(o.seconds for o in outcomes), max(o.mib for o in outcomes)
    counts = len(outcomes), len(outcomes) - refused - faults, refused, faults
    return [*map(str, counts), f"{seconds:.1f}", f"{mib:.0f}"]


def _row_in(line: str) -> list[str] | None:
    """Family and cells in a line of the table, None where it is none."""
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    if len(cells) != 2 + len(_COLUMNS) or not cells[1].isdigit() or cells[0] == "**all**":
        return None
    return [cells[0], *cells[2:]]
