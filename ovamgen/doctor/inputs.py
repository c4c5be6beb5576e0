"""What the run would read and write: model, tokens, output."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ovamgen.config import RunConfig
from ovamgen.console.wording import readable_bytes
from ovamgen.doctor.findings import Finding, fine, problem, warning
from ovamgen.plan.planning import estimate
from ovamgen.run.files import read_plan
from ovamgen.run.inputs import check_model_size, image_size
from ovamgen.shards.output_files import LOGS, RECORDS
from ovamgen.status.logs import impatient
from ovamgen.storage.interface import Store
from ovamgen.storage.store import LocalStore, open_store

_ROOM = 1.2
"""Estimated sizes vary, and indexes and metadata are not in them."""


def model(config: RunConfig) -> Iterator[Finding]:
    """The model's files, as far as their headers tell; nothing is loaded or downloaded."""
    facts = check_model_size(config, safety=config.synthesis.safety != "off")
    name = config.model.id
    count = len(config.model.loras)
    loras = f", with {count} LoRA{'s' if count > 1 else ''}" if count else ""
    if facts.height is None:
        revision = f" --revision {config.model.revision}" if config.model.revision else ""
        yield warning(
            "model",
            f"{name} is not in the cache: the first worker downloads gigabytes",
            f"hf download {name}{revision}, on every node, before the run",
        )
    else:
        yield fine(
            "model",
            f"{name}: {facts.height}x{facts.width} pixels, {facts.cross_attention_layers} layers "
            f"of cross-attention, on {config.model.device} in {config.model.dtype}{loras}",
        )


def tokens(config: RunConfig) -> Iterator[Finding]:
    """The token bank, and whether it fits the model."""
    from ovamgen.engine.token_choice import open_tokens

    config, bank = open_tokens(config)
    asked = config.attribution.tokens
    if bank is None:
        yield fine("tokens", f"'{asked}': no bank is read")
    else:
        yield fine("tokens", f"{asked}: pairs of width {bank.width}, sha256 {bank.sha256[:12]}")


def head(config: RunConfig) -> Iterator[Finding]:
    """The trained network that makes the maps, where the method has one."""
    if config.attribution.head_file is None:
        return
    from ovamgen.attribution.trained_head import open_head

    use = open_head(config)
    assert use is not None
    asked, digest = config.attribution.head, use.head.sha256[:12]
    yield fine("head", f"{asked}: of {use.head.kind}, run as '{use.mode}', sha256 {digest}")


def output(config: RunConfig) -> Iterator[Finding]:
    """The store: whether it can be written, and whether it does what publishing relies on."""
    store = impatient(open_store(config.out))
    holder = store.holder()
    if holder is not None:
        yield warning(
            "output",
            f"a run is writing to {store.url} ({holder})",
            "wait for it, or give another --out: a second run is refused",
        )
    with _left_as_it_was(store):
        wrong = _try_out(store)
    if wrong:
        yield problem(
            "output",
            f"{store.url}: {wrong}",
            "give another --out: what a run publishes there could not be relied upon",
        )
    else:
        yield fine(
            "output", f"{store.url}: files are created once only, replaced, read, listed, removed"
        )


def _try_out(store: Store) -> str:
    """What the store does wrong; "" where it keeps its promises."""
    # under logs/, which nobody takes for a part of the corpus, should this process be killed here
    name = f"{LOGS}doctor-{uuid.uuid4().hex}.txt"
    try:
        if not store.create(name, b"first"):
            return "a new file counts as one that is there"
        if store.create(name, b"second") or store.read(name) != b"first":
            return "creating a file that is there replaces it"
        store.put(name, b"third, longer")
        if store.read(name) != b"third, longer":
            return "a replaced file reads as before"
        if store.sizes(name) != {name: len(b"third, longer")}:
            return "a new file is not listed, or with another size"
    finally:
        store.delete(name)
    return "a removed file is still there" if store.exists(name) else ""


@contextmanager
def _left_as_it_was(store: Store) -> Iterator[None]:
    """Removes the empty folders that a local store makes for its first file."""
    new: list[Path] = []
    if isinstance(store, LocalStore):
        root = Path(store.url)
        places = [root / ".scratch", root / LOGS, root, *root.parents]
        new = [place for place in places if not place.exists()]
    try:
        yield
    finally:
        for place in new:
            # deepest first; a folder in which something else has appeared stays
            with suppress(OSError):
                place.rmdir()


def room(config: RunConfig) -> Iterator[Finding]:
    """Whether the plan fits the disk of a local output."""
    store = open_store(config.out)
    if not isinstance(store, LocalStore):
        yield fine("room", f"{store.url} is not on a disk of this machine: no room is measured")
        return
    place = Path(store.url)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    needed = _bytes_to_come(store, config)
    text = f"{readable_bytes(free)} free for {store.url}"
    if needed is None:
        yield fine("room", f"{text}; there is no plan yet, 'ovamgen plan' says what it needs")
    elif needed * _ROOM > free:
        yield problem(
            "room",
            f"{text}, the rest of the plan needs about {readable_bytes(int(needed * _ROOM))}",
            "make room, or plan fewer samples (--limit, --per-class)",
        )
    else:
        yield fine("room", f"{text}, the rest of the plan needs {readable_bytes(needed)}")


def _bytes_to_come(store: Store, config: RunConfig) -> int | None:
    plan = read_plan(store)
    if plan is None:
        return None
    whole = estimate(plan, *image_size(config))
    left = max(0, whole.shards - len(store.list(RECORDS)))
    return round(whole.bytes * left / max(whole.shards, 1))
