"""The files that are derived from a corpus: made again and compared."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageChops

from ovamgen import __version__
from ovamgen.errors import OvamgenError, ShardError
from ovamgen.generation import draw_contact_sheet
from ovamgen.integrity.findings import Findings
from ovamgen.records import ShardRecord
from ovamgen.report.figures import MAX_BYTES, encode_sheet
from ovamgen.run.files import library_versions, saved_config
from ovamgen.shards.card import DOCUMENTS_EDITION, render_card
from ovamgen.shards.manifest import count_classes, wids_index
from ovamgen.shards.output_files import (
    CARD_NAME,
    CLASSES_NAME,
    CONTACT_SHEET_NAME,
    CROISSANT_NAME,
    WIDS_NAME,
    Layout,
)
from ovamgen.storage.store import Store

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_indexes(
    store: Store,
    names: Mapping[str, int],
    layout: Layout,
    records: Sequence[ShardRecord],
    run: Mapping[str, Any],
    findings: Findings,
) -> list[str]:
    """Finds derived files that are not what the shards and the settings make of them.

    The manifest is no such file: other files are judged by it (`ovamgen.integrity.documents`).

    Args:
        store: of the output.
        names: its files.
        layout: its kind.
        records: of all shards, as they are or were, by ascending index.
        run: what ``run.yaml`` or the manifest says.
        findings: grows.

    Returns:
        What was not looked at, and why.
    """
    notes: list[str] = []

    def compare(name: str, make: Callable[[], bytes]) -> None:
        if name not in names:
            findings.add(name, "the file that every finished output has", "no such file", "missing")
            return
        try:
            wanted = make()
        except OvamgenError as error:
            notes.append(f"{name} was not compared: {error}")
            return
        try:
            same = store.read(name) == wanted
        except ShardError as error:
            findings.add(name, f"{len(wanted)} bytes", error)
            return
        if not same:
            findings.add(name, "what the shards and the settings make of it", "another content")

    compare(WIDS_NAME, lambda: wids_index(records))
    made_here = (__version__, DOCUMENTS_EDITION)
    made_by = (run.get("ovamgen_version", __version__), run.get("documents_edition", 1))
    if layout == "export":
        notes.append(
            f"{CARD_NAME}, {CLASSES_NAME} and {CROISSANT_NAME} were not compared: export again "
            "makes them anew"
        )
    elif made_by != made_here and CARD_NAME in names:
        notes.append(
            f"{CARD_NAME} was not compared: the corpus is of ovamgen {made_by[0]} (documents of "
            f"edition {made_by[1]}), this is {__version__} (edition {DOCUMENTS_EDITION})"
        )
    else:
        compare(
            CARD_NAME, lambda: render_card(records, count_classes(store, records), run).encode()
        )
    if layout == "run" and any(record.samples for record in records):
        if CONTACT_SHEET_NAME in names:
            notes += _check_sheet(store, records, run, findings)
        else:
            findings.add(CONTACT_SHEET_NAME, "a page of samples", "no such file", "missing")
    return notes


def _check_sheet(
    store: Store, records: Sequence[ShardRecord], run: Mapping[str, Any], findings: Findings
) -> list[str]:
    """Its checksums, and where the versions are the run's the pixels; returns notes."""
    try:
        data = store.read(CONTACT_SHEET_NAME, 2 * MAX_BYTES)
        check_png(data)
    except ShardError as error:
        findings.add(CONTACT_SHEET_NAME, "a whole PNG", error)
        return []
    here = (library_versions(), DOCUMENTS_EDITION)
    if (run.get("versions"), run.get("documents_edition", 1)) != here:
        return [
            f"{CONTACT_SHEET_NAME} was not drawn again, only its checksums were looked at: the "
            "versions here are not those of the run"
        ]
    try:
        sheet = draw_contact_sheet(store, records, saved_config(run, store.url))
    except OvamgenError as error:
        return [f"{CONTACT_SHEET_NAME} was not drawn again: {error}"]
    # encoding takes longer than everything else, and is needed only where the sheet was shrunk
    if not _shows(data, sheet) and data != encode_sheet(sheet):
        findings.add(CONTACT_SHEET_NAME, "the page of the samples there are", "another picture")
    return []


def _shows(data: bytes, sheet: Image.Image) -> bool:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as found:
        if (found.size, found.mode) != (sheet.size, sheet.mode):
            return False
        return ImageChops.difference(found, sheet).getbbox() is None


def check_png(data: bytes) -> None:
    """Checks that a checksum bears out every byte of a PNG.

    Raises:
        ShardError: a byte was changed, or some are missing.
    """
    if not data.startswith(_SIGNATURE):
        raise ShardError("it does not begin like a PNG")
    place, kind = len(_SIGNATURE), b""
    while place < len(data):
        if place + 12 > len(data):
            raise ShardError("it is cut")
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        kind, end = body[:4], place + 12 + length
        if end > len(data):
            raise ShardError("it is cut")
        if zlib.crc32(body) != struct.unpack(">I", data[end - 4 : end])[0]:
            raise ShardError(f"the checksum of the chunk at byte {place} is another")
        place = end
    if kind != b"IEND":
        raise ShardError("it has no end")
