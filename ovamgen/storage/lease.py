"""A lock that is an object in a store: held by whoever renews it, taken over when nobody does.

No two machines' clocks are ever compared. Whoever waits watches, by its own monotonic clock, for
how long the object has not changed; whoever holds it looks before every write whether it still
does. It knows nothing of shards.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ovamgen.errors import OvamgenError, ShardError
from ovamgen.storage.filelock import FileLock
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.scratch import machine_folder

log = logging.getLogger(__name__)

_NONCE = re.compile(r"[0-9a-f]{32}")
_LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """How often a lease is renewed, and when it counts as abandoned."""

    renew_seconds: float = 5.0
    takeover_seconds: float = 60.0
    """Without a renewal; far more than a holder that lives, however busy, takes for one."""


@runtime_checkable
class Cell(Protocol):
    """The one object that a lease is."""

    def read(self) -> bytes | None:
        """Its content, None where there is none."""

    def create(self, data: bytes) -> bool:
        """Writes it only if there is none; False where there is one."""

    def write(self, data: bytes) -> None:
        """Writes it, whatever is there."""

    def delete(self) -> None:
        """Removes it, if it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseContent:
    """What stands in the object."""

    holder: str
    nonce: str
    """Nonce of one holding: a process that holds the lease twice has two."""
    renewals: int = 0

    def to_json(self) -> bytes:
        """As it is stored."""
        content = {"holder": self.holder, "nonce": self.nonce, "renewals": self.renewals}
        return (json.dumps(content, indent=1) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes) -> LeaseContent:
        """The content of any bytes; a damaged lease is one of an unknown holder."""
        try:
            found = load_plain_json(data)
            nonce = str(found["nonce"])
            # it becomes part of a file's name
            known = _NONCE.fullmatch(nonce) is not None
            return cls(holder=str(found["holder"])[:200], nonce=nonce if known else "")
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls(holder="an unknown process", nonce="")


class HeldError(Exception):
    """A living holder has the lease."""

    def __init__(self, holder: str) -> None:
        """``holder`` is its name."""
        super().__init__(holder)
        self.holder = holder


class Lease:
    """A lease that is held from `acquire` to `release`, renewed by a thread."""

    def __init__(
        self, cell: Cell, content: LeaseContent, alive: FileLock, times: LeaseTimes
    ) -> None:
        """Take over a lease that was written; use `acquire`."""
        self._cell = cell
        self._content = content
        self._alive = alive
        self._times = times
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="ovamgen-lease", daemon=True)
        self._thread.start()

    @property
    def nonce(self) -> str:
        """By which the holder's other processes know the lease as their own."""
        return self._content.nonce

    @classmethod
    def acquire(
        cls, cell: Cell, holder: str, times: LeaseTimes, *, exclusive: bool = True
    ) -> Lease:
        """The lease; waits where its holder may be dead.

        Args:
            cell: the object.
            holder: for whoever is refused to read.
            times: of this holder; those of the other are not asked for.
            exclusive: ``cell.create`` can tell who was first.

        Raises:
            HeldError: its holder renews it.
            OSError: this machine's folder of leases cannot be written.
            OvamgenError: the store failed.
        """
        content = LeaseContent(holder=holder, nonce=uuid.uuid4().hex)
        alive = FileLock.acquire(_evidence(content.nonce), holder)
        assert alive is not None, "a fresh name can have no other holder"
        is_sure = exclusive
        try:
            while not cell.create(content.to_json()):
                _await_end(cell, times)
                is_sure = False
            if not is_sure:
                # two that came at once may both have written: the last one stays
                time.sleep(min(_LONGEST_PAUSE_SECONDS, times.renew_seconds))
                found = cell.read()
                if found is None or LeaseContent.parse(found).nonce != content.nonce:
                    raise HeldError(holder_in(found) or "it has just begun")
        except BaseException:
            alive.release()
            raise
        return cls(cell, content, alive, times)

    def release(self) -> None:
        """Lets go of the lease, if it is still held; a store that fails leaves it to be taken."""
        self._stop.set()
        self._thread.join(timeout=2 * self._times.renew_seconds)
        try:
            if is_held(self._cell, self._content.nonce):
                self._cell.delete()
        except OvamgenError as error:
            log.warning("the lock could not be removed and will be taken over: %s", error)
        self._alive.release()

    def _renew(self) -> None:
        renewals = 0
        while not self._stop.wait(self._times.renew_seconds):
            renewals += 1
            content = LeaseContent(
                holder=self._content.holder, nonce=self._content.nonce, renewals=renewals
            )
            try:
                if not is_held(self._cell, content.nonce):
                    # every write of the holder finds the same, and ends it
                    log.error("this run has lost its lock, and stops at its next write")
                    return
                self._cell.write(content.to_json())
            except OvamgenError as error:
                log.warning("the lock could not be renewed, trying again: %s", error)


def is_held(cell: Cell, nonce: str) -> bool:
    """Whether the lease is that of the nonce."""
    found = cell.read()
    return found is not None and LeaseContent.parse(found).nonce == nonce


def check_held(cell: Cell, nonce: str, url: str) -> None:
    """Checks that the lease is that of the nonce.

    Raises:
        ShardError: it was lost; whoever holds it now is named.
    """
    found = cell.read()
    if found is not None and LeaseContent.parse(found).nonce == nonce:
        return
    by = f"to {holder_in(found)}" if found is not None else "because it was removed"
    raise ShardError(
        f"this run has lost the lock of {url} {by}, and stops before it writes anything more: what "
        "it had finished stays valid; run again when the other run has ended"
    )


def holder_in(data: bytes | None) -> str | None:
    """Who holds the lease with this content; None for nobody, or a process that died here."""
    if data is None:
        return None
    content = LeaseContent.parse(data)
    return None if _died_here(content.nonce) else content.holder


def _await_end(cell: Cell, times: LeaseTimes) -> None:
    """Returns once the lease is gone: released, or abandoned and then removed."""
    first = cell.read()
    if first is None:
        return
    content = LeaseContent.parse(first)
    died_here = _died_here(content.nonce)
    if not died_here:
        log.warning(
            "%s has the lock: it counts as dead if it does not renew it for %g s",
            content.holder,
            times.takeover_seconds,
        )
    since = time.monotonic()
    while not died_here and time.monotonic() - since < times.takeover_seconds:
        time.sleep(min(_LONGEST_PAUSE_SECONDS, times.takeover_seconds / 4))
        now = cell.read()
        if now is None:
            return
        if now != first:
            raise HeldError(LeaseContent.parse(now).holder)
    log.warning("taking over the lock of %s, which is dead", content.holder)
    # looked at once more: another waiter may have been faster
    if cell.read() == first:
        cell.delete()
    if died_here:
        _evidence(content.nonce).unlink(missing_ok=True)


def _evidence(nonce: str) -> Path:
    """A file that the holder keeps locked: where it is there and free, the holder died here."""
    return machine_folder("leases") / f"{nonce}.lock"


def _died_here(nonce: str) -> bool:
    if not nonce:
        return False
    try:
        path = _evidence(nonce)
        return path.exists() and FileLock.holder(path) is None
    except OSError:
        return False
