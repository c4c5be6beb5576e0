"""The metadata table of a shard may come from anybody: what readers rely on is checked first."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ovamgen.errors import ShardError
from ovamgen.shards.finished_shard import read_metadata
from ovamgen.shards.output_files import metadata_name
from ovamgen.shards.schema import METADATA_SCHEMA, PLANNED_FIELDS, spec_fields
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import LocalStore
from tests.shards.samples import FINGERPRINT, make_failure, make_samples, make_spec


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    store = LocalStore(tmp_path_factory.mktemp("shard"))
    record = publish_shard(
        store,
        shard_index=0,
        split="train",
        samples=make_samples(3, height=16, width=16),
        failures=[make_failure(3)],
        fingerprint=FINGERPRINT,
    )
    return store, record, pq.read_table(io.BytesIO(store.read(metadata_name(0))))


def test_what_was_written_is_read(shard):
    store, record, table = shard
    assert read_metadata(store, record).equals(table)
    assert read_metadata(store, record, ["key", "scores"]).column_names == ["key", "scores"]
    assert tuple(spec_fields(make_spec(0))) == PLANNED_FIELDS


def changed(name, values):
    def change(table):
        column = values if isinstance(values, pa.Array) else pa.array(values, table[name].type)
        return table.set_column(table.column_names.index(name), pa.field(name, column.type), column)

    return change


KEYS = ["00000000000", "00000000001", "00000000002", "00000000003"]
NULLS = pa.array([None] * 4, pa.int64())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("class_ids", pa.array(["1"] * 4)), "class_ids .* type list<.*got string"),
        (changed("class_ids", pa.array([[1.5]] * 4)), "class_ids .* type list<.*got list<.*double"),
        (changed("class_ids", [[1], [1], None, [1]]), "class_ids .* value in every row"),
        (changed("class_ids", [[1], [1], [None], [1]]), "class_ids .* no empty value"),
        (changed("class_ids", [[1], [1], [255], [1]]), "class_ids .* from 0 to 254"),
        (changed("class_ids", [[1], [1], [1], [-1]]), "class_ids .* from 0 to 254"),
        (changed("class_names", [["a", "b"]] * 4), "class_names .* one value for each target"),
        (changed("scores", [[]] * 4), "scores .* one value for each target"),
        (changed("scores", [[float("nan")]] * 4), "scores .* finite"),
        (changed("height", NULLS), "height .* value in every row"),
        (changed("width", [0] * 4), "width .* from 1 to 32768"),
        (changed("status", [None] * 4), "status .* value in every row"),
        (changed("key", [KEYS[0]] * 4), "key .* each key once"),
        (changed("key", [*KEYS[:3], "0000\n000003"]), "key .* hold 11 digits"),
        (changed("key", [*KEYS[:3], "00000100003"]), "key .* 000000 first"),
        (lambda table: table.slice(0, 3), "must have 4 rows .* got 3"),
        (lambda table: pa.concat_tables([table, table]), "at most 4 rows, got 8"),
        (lambda table: table.append_column("key", table["key"]), "see to key"),
        (lambda table: table.drop_columns(["areas"]), "see to areas"),
    ],
)
def test_what_no_ovamgen_writes_is_refused(shard, tmp_path, change, message):
    _, record, table = shard
    buffer = io.BytesIO()
    pq.write_table(change(table), buffer)
    store = LocalStore(tmp_path)
    store.put(metadata_name(0), buffer.getvalue())
    with pytest.raises(ShardError, match=message):
        read_metadata(store, record, METADATA_SCHEMA.names)


def test_a_failed_sample_has_no_scores(shard):
    store, record, _ = shard
    rows = read_metadata(store, record).to_pylist()
    assert [row["scores"] is None for row in rows] == [False, False, False, True]
