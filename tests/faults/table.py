"""What the fault matrix found, as rows, and the page that shows them."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ovamgen.integrity.verify import verify
from ovamgen.shards.reader import read_tar
from tests.runs import digests

TABLE = "OVAMGEN_FAULTS_TABLE"
"""Names the file that the rows are written to; nothing is written where it is not set."""
COMMAND = (
    f"{TABLE}=docs/results/faults.md python -m pytest tests/faults -m 'slow or not slow' "
    "--timeout 1800"
)

STEPS = {
    "worker.loading": "while the model loads",
    "run.plan_put": "after the plan",
    "run.run_file_put": "after run.yaml",
    "batch.begun": "in a batch",
    "refine.begun": "while masks are refined",
    "write.begun": "before a shard is written",
    "tar.begun": "tar begun",
    "tar.sample_added": "tar partly written",
    "shard.tar_closed": "tar closed",
    "local.synced": "a file on disk, not renamed yet",
    "local.renamed": "a file renamed, its folder not synced yet",
    "shard.tar_published": "tar published",
    "shard.metadata_put": "metadata written, before the record",
    "local.record_synced": "record on disk, not linked yet",
    "local.record_linked": "record linked, its folder not synced yet",
    "shard.record_created": "after the record",
    "index.manifest_put": "between index files: manifest written",
    "index.wids_put": "between index files: wids index written",
    "run.indexes_put": "index files written",
    "run.contact_sheet_put": "contact sheet written",
    "remote.uploaded": "uploaded, before its bytes were confirmed",
    "remote.record_begun": "before the record is created",
    "driver.batch_given": "after a batch was given out",
    "driver.shard_written": "after a shard was written, before it was noted",
}
"""Every step of `ovamgen.fault_points` that any run may pass, in the words of the page."""
STEPS_OF_CHANGES = {
    "run.run_file_removed": "run.yaml removed of a plan that gives way",
    "run.indexes_removed": "index files removed of a corpus that is extended",
    "run.generation_removed": "run.yaml removed of an extension that gives way",
}
"""Those that a run passes only where it changes what another configuration began."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault, as often as it was injected in one place."""

    order: int
    fault: str
    where: str
    times: int
    lost: int
    """Keys of the undisturbed run that the tars do not have."""
    duplicated: int
    """Keys that stand in the tars more than once."""
    findings: tuple[str, ...]
    """What `ovamgen verify` has to say against the output."""
    equal: bool
    """Every file has the bytes of the undisturbed run, and there is no other file."""


def compare(
    folder: str | Path, reference: str | Path, *, order: int, fault: str, where: str, times: int = 1
) -> Row:
    """The row of a run that was disturbed and then finished."""
    found, wanted = Counter(_keys(Path(folder))), Counter(_keys(Path(reference)))
    return Row(
        order=order,
        fault=fault,
        where=where,
        times=times,
        lost=len(wanted.keys() - found.keys()),
        duplicated=sum(count - 1 for count in found.values()),
        findings=_findings(folder),
        equal=digests(folder) == digests(reference),
    )


def _findings(folder: str | Path) -> tuple[str, ...]:
    found = verify(str(folder))
    unfinished = () if found.state == "complete" else (f"state {found.state}",)
    return (*unfinished, *(finding.line() for finding in found.findings))


def _keys(folder: Path) -> list[str]:
    """Keys of the samples in the tars and of the failures in the metadata."""
    keys = []
    for tar in sorted(folder.glob("*.tar")):
        with tar.open("rb") as file:
            keys += [key for key, _ in read_tar(file, tar.name)]
    for path in sorted(folder.glob("metadata/*.parquet")):
        rows = pq.read_table(path, columns=["key", "status"]).to_pylist()
        keys += [row["key"] for row in rows if row["status"] != "ok"]
    return keys


OTHER_COMMANDS = "## Other commands"
"""Where the part of the page begins that `write_commands` writes."""


@dataclass(frozen=True, kw_only=True)
class CommandRow:
    """One fault of one command, as often as it was injected."""

    command: str
    fault: str
    times: int
    places: int
    """Where the fault could have been injected: file operations, sizes of the disk."""
    equal: int
    """Times that the same command, given again, left the bytes of an undisturbed one."""
    clear: int
    """Times that it said in one line why it does not go on."""
    lost: int
    """Times that something of the user's was gone or other."""
    silent: int
    """Times that it ended well with other bytes, or without a word."""

    @property
    def tried(self) -> str:
        """``212``, or ``40 of 212`` where not all places were."""
        return f"{self.times}" + (f" of {self.places}" if self.places > self.times else "")

    @classmethod
    def of(cls, command: str, fault: str, found: Mapping[Any, str], places: int) -> CommandRow:
        """The row of what was found, by place, in so many places that there are."""
        kinds = Counter(found.values())
        equal, clear, lost = (kinds.pop(name, 0) for name in ("equal", "clear", "lost"))
        return cls(
            command=command,
            fault=fault,
            times=len(found),
            places=max(places, len(found)),
            equal=equal,
            clear=clear,
            lost=lost,
            silent=kinds.total(),
        )


def write_commands(rows: list[CommandRow], path: Path, repository: Path) -> None:
    """Writes the part of the page about the commands that are not `generate`."""
    before, _, old = path.read_text().partition(OTHER_COMMANDS) if path.exists() else ("", "", "")
    kept = {(row.command, row.fault): row for row in map(_row_in, old.splitlines()) if row}
    rows = [*(kept | {(row.command, row.fault): row for row in rows}).values()]
    times, lost, silent = (sum(getattr(r, n) for r in rows) for n in ("times", "lost", "silent"))
    lines = [
        OTHER_COMMANDS,
        "",
        "Each command that writes was killed at each of its file operations (where the table says "
        "6 of 50, at 6 of them, spread evenly; half of a write is done), had disks of 12 sizes "
        "from nothing to almost enough, a target that refuses every write, and a second one beside "
        "it; of a power cut, each state was tried that the disk can be in as operations are "
        "logged, without the names or without the content that were not flushed. Then the same "
        "command was given again. *Equal*: it left the bytes of an undisturbed one. *Clear*: it "
        "said in one line why it does not go on, and what to do: `tokens optimize` that its bank "
        "is there already, `repair` that `--gc` removes what is left of the process that was "
        "killed. *Lost*: something that was there before was gone. *Silent*: other bytes, or no "
        "word. A shim below libc counts and refuses "
        "(`tests/faults/shim.c`). What has no row here was not tried; rows of earlier commits are "
        "kept until they are measured again.",
        "",
        f"{times} faults: {lost} lost, {silent} silent.",
        "",
        f"{commit_line(repository)} Written by:",
        "",
        f"    {TABLE}=docs/results/faults.md python -m pytest "
        "tests/faults/test_commands.py tests/faults/test_power_cut.py -m 'slow or not slow'",
        "",
        "| command | fault | times | equal | clear | lost | silent |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| `{r.command}` | {r.fault} | {r.tried} | {r.equal} | {r.clear} | {r.lost} | {r.silent} |"
        for r in sorted(rows, key=lambda row: (row.command, row.fault))
    ]
    path.write_text("\n".join([before.rstrip(), "", *lines]).lstrip() + "\n")


def _row_in(line: str) -> CommandRow | None:
    """The row that a line of the table stands for, None where it is none."""
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    times, _, places = cells[2].partition(" of ") if len(cells) == 7 else ("", "", "")
    if not times.isdigit():
        return None
    command, fault, _, *counts = cells
    equal, clear, lost, silent = map(int, counts)
    return CommandRow(
        command=command.strip("`"),
        fault=fault,
        times=int(times),
        places=int(places or times),
        equal=equal,
        clear=clear,
        lost=lost,
        silent=silent,
    )


def page(rows: list[Row], repository: Path) -> str:
    """The rows as Markdown, merged where fault and place are the same."""
    merged: dict[tuple[int, str, str], list[Row]] = {}
    for row in rows:
        merged.setdefault((row.order, row.fault, row.where), []).append(row)
    times = sum(row.times for row in rows)
    lines = [
        "# Fault matrix",
        "",
        "Each fault was injected into a run, then the same command was given again, then the "
        "output was verified and every file compared with that of an undisturbed run. *Lost* and "
        "*duplicated* count samples. Runs draw discs in place of a diffusion model, but for the "
        "rows that name `mini`; stores, Ray, processes and signals are real.",
        "",
        f"{times} faults in {len(merged)} places: {sum(row.lost for row in rows)} samples lost, "
        f"{sum(row.duplicated for row in rows)} duplicated, "
        f"{sum(not row.equal for row in rows)} outputs with other bytes.",
        "",
        f"{commit_line(repository)} Written by:",
        "",
        f"    {COMMAND}",
        "",
        "| fault | injected where | times | lost | duplicated | verified | bytes equal |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for (_, fault, where), group in sorted(merged.items()):
        lines.append(
            f"| {fault} | {where} | {sum(row.times for row in group)} "
            f"| {sum(row.lost for row in group)} | {sum(row.duplicated for row in group)} "
            f"| {_told(not row.findings for row in group)} | {_told(row.equal for row in group)} |"
        )
    return "\n".join(lines) + "\n"


def _told(answers: Iterable[bool]) -> str:
    return "yes" if all(answers) else "**NO**"


def commit_line(repository: Path) -> str:
    """The commit that a page was written by, and its date."""
    commit = _git(repository, "describe", "--always", "--dirty")
    return f"Commit {commit} ({_git(repository, 'log', '-1', '--format=%cs')})."


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=repository, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
