"""Captions out of tables: CSV, TSV, JSON lines, Parquet and plain text.

All formats are brought to rows of named cells, and one function makes captions of them.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ovamgen.errors import PlanError
from ovamgen.plan.source import MAX_BYTES, Source, first_line

TEXT_COLUMNS = ("caption", "text", "prompt")
ID_COLUMNS = ("id", "caption_id")
IMAGE_COLUMNS = ("image_id",)
CLASS_COLUMNS = ("targets", "class", "classes")
PICTURE_COLUMNS = ("picture", "file_name", "image", "name")

_OF_CAPTIONS = {
    "text": TEXT_COLUMNS,
    "id": ID_COLUMNS,
    "image": IMAGE_COLUMNS,
    "class": CLASS_COLUMNS,
}
_OF_PICTURES = {"picture": PICTURE_COLUMNS, **_OF_CAPTIONS}
"""Names of columns by their use; the first use is one that a table must have."""

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """One caption as its source gives it."""

    caption_id: int
    """The source's own, else the number of the row, from 0."""
    image_id: int
    """-1 where the source names no image."""
    text: str
    classes: tuple[str, ...] = ()
    """Classes that the source states, by any of their names; usually none."""
    picture: str = ""
    """Path of the captioned picture, where the source is asked for pictures."""
    place: str = field(default="", compare=False)
    """Where the source has it, for messages: ``captions.csv line 7``; "" where nobody asks."""


_Uses = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a table, and where it stands, for messages."""

    place: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Table:
    """A table that is read while its rows are taken."""

    columns: Mapping[str, Any]
    """The keys are the names; JSON lines need not agree in theirs: every name of any line."""
    rows: Iterator[_Row]


def read_table(source: Source, *, of_pictures: bool = False) -> Iterator[Caption]:
    """The captions of a CSV, TSV, JSON lines, Parquet or text file, by its ending.

    The text stands in a column `caption`, `text` or `prompt` (the first of these that there is);
    `id` or `caption_id`, `image_id`, and `targets`, `class` or `classes` (a list, or names joined
    by ";", which the caption need not contain) are read where there are such columns. Plain text
    has one caption a line.

    Of pictures, `picture`, `file_name`, `image` or `name` has the path, and there need be no text.

    Raises:
        PlanError: a malformed line, no column of text, or an id that is no integer.
    """
    columns = _OF_PICTURES if of_pictures else _OF_CAPTIONS
    if source.suffix == ".txt":
        if of_pictures:
            raise PlanError(
                f"{source.url}: a table that names pictures is needed, such as a .csv with the "
                "columns picture and caption; a .txt has captions alone"
            )
        for number, line in enumerate(_lines(source)):
            yield Caption(caption_id=number, image_id=-1, text=line)
        return
    readers = {".csv": _csv_table, ".tsv": _csv_table, ".jsonl": _json_lines}
    readers[".ndjson"] = _json_lines
    table = readers.get(source.suffix, _parquet_table)(source, columns)
    if table.columns:
        yield from _captions(source.url, table, columns)


def _captions(url: str, table: _Table, known: _Uses) -> Iterator[Caption]:
    columns = _columns(url, table.columns, known)
    for number, row in enumerate(table.rows):
        where = f"{url} {row.place}"
        texts = {use: _text_cell(where, row, columns, use) for use in ("text", "picture")}
        yield Caption(
            caption_id=_integer(where, row, columns.get("id"), number),
            image_id=_integer(where, row, columns.get("image"), -1),
            text=texts["text"],
            picture=texts["picture"],
            classes=_classes(where, row.cells.get(columns.get("class", ""))),
            place=where,
        )


def _text_cell(where: str, row: _Row, columns: Mapping[str, str], use: str) -> str:
    """The text of a row in one of the columns; "" where the table has no such column."""
    if use not in columns:
        return ""
    text = row.cells.get(columns[use])
    if not isinstance(text, str):
        raise PlanError(f"{where}: expected text in {columns[use]!r}, got {text!r:.60}")
    return checked_text(where, text)


def checked_text(where: str, text: str) -> str:
    """The text, if it can be written as UTF-8.

    Raises:
        PlanError: it holds half of a surrogate pair, as broken JSON escapes make.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise PlanError(
            f"{where}: expected Unicode text, got the lone surrogate U+{code:04X}: mend the text"
        ) from None
    return text


def checked_id(where: str, name: str, value: Any) -> int:
    """The value, if it is an integer that fits 64 bits; True and False are none.

    Raises:
        PlanError: it is anything else.
    """
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise PlanError(f"{where}: expected an integer of 64 bits in {name!r}, got {value!r:.60}")
    return value


def _columns(url: str, cells: Mapping[str, Any], uses: _Uses) -> Mapping[str, str]:
    """The table's own name of each column that is used."""
    plain = {str(name).strip().lower(): name for name in reversed(list(cells))}
    found = {}
    for use, names in uses.items():
        known = [plain[name] for name in names if name in plain]
        if known:
            found[use] = known[0]
    needed = next(iter(uses))
    if needed not in found:
        *first, last = uses[needed]
        raise PlanError(
            f"{url}: expected a column named {', '.join(first)} or {last}, found {shortened(cells)}"
        )
    return found


def shortened(names: Iterable[Any]) -> str:
    """Names for a message, at most eight of them."""
    listed = [repr(name)[:40] for name in names]
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return (", ".join(listed[:8]) or "none") + more


def _integer(where: str, row: _Row, column: str | None, default: int) -> int:
    if column is None:
        return default
    value = row.cells.get(column)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    return checked_id(where, column, value)


def _classes(where: str, value: Any) -> tuple[str, ...]:
    names = value.split(";") if isinstance(value, str) else ([] if value is None else value)
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise PlanError(f"{where}: expected class names joined by ';', got {value!r:.60}")
    return tuple(name.strip() for name in names if name.strip())


def _lines(source: Source) -> Iterator[str]:
    """The lines of a text; only line feeds part them, as every other tool counts lines."""
    with _text(source, "\n") as text:
        for line in text:
            yield line.removesuffix("\n").removesuffix("\r")


@contextmanager
def _text(source: Source, newline: str) -> Iterator[io.TextIOWrapper]:
    """The content as text, decoded while it is read."""
    try:
        with io.TextIOWrapper(io.BytesIO(source.content), "utf-8-sig", newline=newline) as text:
            yield text
    except UnicodeDecodeError:
        # decoded as a whole it knows the line
        source.text()
        raise


def _csv_table(source: Source, uses: _Uses) -> _Table:
    rows = _csv_fields(source)
    _, header = next(rows, (0, []))
    _check_header(source.url, header, uses)
    return _Table(dict.fromkeys(header), _csv_rows(source, header, rows))


def _csv_rows(
    source: Source, header: list[str], rows: Iterator[tuple[int, list[str]]]
) -> Iterator[_Row]:
    for line, fields in rows:
        if len(fields) != len(header):
            raise PlanError(
                f"{source.url} line {line}: expected {len(header)} fields as the header has, got "
                f"{len(fields)}: quote texts that hold '{_delimiter(source)}'"
            )
        yield _Row(f"line {line}", dict(zip(header, fields, strict=True)))


def _csv_fields(source: Source) -> Iterator[tuple[int, list[str]]]:
    """Numbers of the first line and fields of the rows that are not empty."""
    with _text(source, "") as text:
        reader = csv.reader(text, delimiter=_delimiter(source), strict=True)
        line = 1
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            # a quote that is never closed takes in everything up to the limit or the end
            quoted = reader.line_num > line
            hint = ": close the quote that this row opens" if quoted else ""
            raise PlanError(f"{source.url} line {line}: malformed CSV: {error}{hint}") from None


def _delimiter(source: Source) -> str:
    return "\t" if source.suffix == ".tsv" else ","


def _check_header(url: str, header: list[str], uses: _Uses) -> None:
    if header:
        _columns(url, dict.fromkeys(header), uses)
    for name in header:
        if header.count(name) > 1:
            raise PlanError(f"{url}: the column {name!r} stands twice in the header: rename one")


def _json_lines(source: Source, uses: _Uses) -> _Table:
    names: dict[str, Any] = {}
    for row in _json_rows(source):
        names |= dict.fromkeys(row.cells)
    return _Table(names, _json_rows(source))


def _json_rows(source: Source) -> Iterator[_Row]:
    for number, line in enumerate(_lines(source), start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"{source.url} line {number}: malformed JSON: {error}") from None
        if not isinstance(cells, dict):
            raise PlanError(
                f"{source.url} line {number}: expected a JSON object, got {line[:40]!r}"
            )
        yield _Row(f"line {number}", cells)


def _parquet_table(source: Source, uses: _Uses) -> _Table:
    with _parquet(source) as file:
        schema = file.schema_arrow
    names = dict.fromkeys(schema.names)
    wanted = [*_columns(source.url, names, uses).values()]
    texts = [name for name in wanted if _is_text(schema.field(name).type)]
    return _Table(names, _parquet_rows(source, wanted, texts))


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _parquet_rows(source: Source, wanted: list[str], texts: list[str]) -> Iterator[_Row]:
    number = size = 0
    # each text once, however often it stands in the rows, until their length has been counted
    with _parquet(source, texts) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
            size += sum(map(_unpacked_bytes, batch.columns))
            if size > MAX_BYTES:
                raise PlanError(
                    f"{source.url} holds more than {MAX_BYTES} bytes, the most that is read"
                )
            for cells in batch.to_pylist():
                number += 1
                yield _Row(f"row {number}", cells)


def _unpacked_bytes(column: pa.Array) -> int:
    if not isinstance(column, pa.DictionaryArray):
        return int(column.nbytes)
    if not _is_text(column.type):
        return int(column.dictionary_decode().nbytes)
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return int(pc.sum(lengths).as_py() or 0)


@contextmanager
def _parquet(source: Source, texts: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(io.BytesIO(source.content), read_dictionary=[*texts]) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PlanError(f"{source.url} cannot be read as Parquet: {first_line(error)}") from None
