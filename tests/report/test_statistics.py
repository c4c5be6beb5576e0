import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ovamgen.classes.loading import default_classes
from ovamgen.errors import ShardError
from ovamgen.report.corpus import read_corpus
from ovamgen.report.statistics import MAX_FAILURE_KINDS, Distribution, Statistics, gather
from ovamgen.shards.output_files import metadata_name
from ovamgen.shards.reader import read_tar
from ovamgen.storage.store import LocalStore, open_store
from tests.report.corpora import shard_record
from tests.voc import VOC_CLASSES


def sample(key="00000000000", class_ids=(8,), scores=(0.9,), areas=(0.25,), **others):
    row = {"key": key, "status": "ok", "stage": "", "reason": "", "unsafe": False}
    row |= {"height": 10, "width": 20, "class_ids": class_ids, "scores": scores, "areas": areas}
    return row | others


def failure(key, reason, stage="synthesis"):
    return {"key": key, "status": "failed", "stage": stage, "reason": reason}


def test_counts_by_hand():
    statistics = Statistics.of(default_classes())
    statistics.add(sample())
    statistics.add(sample(class_ids=[8, 15], scores=[0.7, 0.0], areas=[0.5, 0.0], unsafe=True))
    statistics.add(failure("00000000002", "no"))
    cat, person = statistics.classes[8], statistics.classes[15]
    assert (statistics.samples, statistics.failed, statistics.unsafe) == (2, 1, 1)
    assert statistics.pixels == 400
    assert (cat.images, cat.pixels, cat.empty) == (2, 50 + 100, 0)
    assert (person.images, person.pixels, person.empty) == (1, 0, 1)
    assert (cat.scores.total, person.scores.total) == (2, 0), "an empty mask has no score"


def test_pixels_are_those_of_the_masks(corpus):
    """The recorded areas, against every mask in the tars counted by Pillow."""
    store = open_store(str(corpus))
    records = read_corpus(store).records
    statistics = gather(store, records, default_classes())
    counted: Counter[int] = Counter()
    for record in records:
        with store.open(record.name) as file:
            for _, members in read_tar(file, record.name):
                mask = np.asarray(Image.open(io.BytesIO(members["mask.png"])))
                counted.update(mask.ravel().tolist())
    assert statistics.pixels == counted.total()
    for voc_class in VOC_CLASSES:
        assert statistics.classes[voc_class.id].pixels == counted[voc_class.id], voc_class.name


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from([0.25, 0.5, 0.75]))
def test_quantiles_are_numpys(values, fraction):
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    rank = min(int(fraction * len(values)), len(values) - 1)
    expected = np.sort(np.array(values))[rank]
    assert distribution.quantile(fraction) == pytest.approx(expected, abs=0.51e-4)
    assert sum(distribution.bars(40)) == distribution.total == len(values)


def test_no_values_have_no_quantile():
    assert Distribution().quantile(0.5) is None


def test_bars_hold_their_values():
    distribution = Distribution()
    for value in (0.0, 0.09, 0.1, 0.999, 1.0):
        distribution.add(value)
    assert distribution.bars(10) == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_messages_that_differ_in_the_key_are_one_kind():
    statistics = Statistics.of(default_classes())
    for key in ("00000000003", "00000000001", "00000000009", "00000000010"):
        statistics.add(failure(key, f"bad luck\nwith {key}"))
    statistics.add(failure("00000000020", "no mask", "masks"))
    kinds = {(kind.stage, kind.message): kind for kind in statistics.failures.values()}
    assert kinds["synthesis", "bad luck with KEY"].count == 4
    assert kinds["synthesis", "bad luck with KEY"].examples[:1] == ["00000000003"]
    assert statistics.failed_by_stage == {"synthesis": 4, "masks": 1}


def test_endless_messages_do_not_fill_the_memory():
    statistics = Statistics.of(default_classes())
    for index in range(MAX_FAILURE_KINDS + 7):
        statistics.add(failure(f"{index:011d}", f"message {index} of its own"))
    assert len(statistics.failures) == MAX_FAILURE_KINDS
    assert statistics.other_failures == 7
    assert statistics.failed == MAX_FAILURE_KINDS + 7


def gathered(folder, table):
    """The statistics of a metadata file that its record describes rightly."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    store = LocalStore(folder)
    store.put(metadata_name(0), sink.getvalue())
    states = table.column("status").to_pylist() if "status" in table.column_names else ["ok"]
    made, failed = states.count("ok"), states.count("failed")
    record = replace(shard_record(metadata=sink.getvalue()), samples=made, failed=failed)
    return gather(store, [record], default_classes())


def test_a_table_of_other_columns_is_an_error(tmp_path):
    with pytest.raises(ShardError, match=r"metadata/000000.parquet .* see to .*areas"):
        gathered(tmp_path, pa.table({"key": ["00000000000"]}))


def test_class_ids_beyond_the_classes_are_an_error(corpus, tmp_path):
    table = pq.read_table(corpus / metadata_name(0))
    rows = table.to_pylist()
    rows[0]["class_ids"] = [21] * len(rows[0]["class_ids"])
    with pytest.raises(ShardError, match=r"class ids must be those of voc, got \[21"):
        gathered(tmp_path, pa.Table.from_pylist(rows, table.schema))
