"""Readers: every format gives the same captions, and nothing from outside gives a traceback."""

import gzip
import hashlib
import json
import sys
import types

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovamgen.classes.loading import built_in
from ovamgen.config import PlanConfig
from ovamgen.errors import PlanError
from ovamgen.plan import source
from ovamgen.plan.captions import Caption, Instance, read_captions, read_instances
from ovamgen.plan.planning import make_plan

VOC = built_in("voc")

ROWS = [
    {"id": 7, "image_id": 70, "caption": 'A "cat", sitting.', "class": "cat"},
    {"id": 3, "image_id": 30, "caption": "Zwei\nHünde 🐶", "class": "dog;person"},
    {"id": -1, "image_id": 0, "caption": "", "class": ""},
]
EXPECTED = (
    Caption(caption_id=7, image_id=70, text='A "cat", sitting.', classes=("cat",)),
    Caption(caption_id=3, image_id=30, text="Zwei\nHünde 🐶", classes=("dog", "person")),
    Caption(caption_id=-1, image_id=0, text=""),
)


def as_csv(delimiter=","):
    lines = [delimiter.join(ROWS[0])]
    for row in ROWS:
        cells = ['"' + str(cell).replace('"', '""') + '"' for cell in row.values()]
        lines.append(delimiter.join(cells))
    return "\r\n".join(lines).encode()


def as_jsonl():
    return "\n\n".join(json.dumps(row) for row in ROWS).encode()


def as_parquet(rows=ROWS):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def as_coco():
    return json.dumps({"annotations": ROWS}).encode()


TABLES = {
    "a.csv": as_csv(),
    "a.tsv": as_csv("\t"),
    "a.jsonl": as_jsonl(),
    "a.ndjson": as_jsonl(),
    "a.parquet": as_parquet(),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_tables_give_the_same_captions(tmp_path, name, packed):
    content = gzip.compress(TABLES[name]) if packed else TABLES[name]
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(content)
    file = read_captions(str(path))
    assert file.captions == EXPECTED
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert file.format == {"ndjson": "jsonl"}.get(name[2:], name[2:])


def test_coco_captions(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(as_coco())
    file = read_captions(str(path))
    assert [caption.text for caption in file.captions] == [row["caption"] for row in ROWS]
    assert [(c.caption_id, c.image_id) for c in file.captions] == [(7, 70), (3, 30), (-1, 0)]
    assert file.format == "coco"


def test_gzip_is_told_by_content(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(gzip.compress(as_coco()))
    assert len(read_captions(str(path)).captions) == 3


def test_plain_text_has_a_caption_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffA cat\r\n\nTwo dogs\u2028here\n".encode())
    texts = [(c.caption_id, c.image_id, c.text) for c in read_captions(str(path)).captions]
    assert texts == [(0, -1, "A cat"), (1, -1, ""), (2, -1, "Two dogs\u2028here")]


@pytest.mark.parametrize("column", ["caption", "text", "prompt", " Prompt "])
def test_text_columns(tmp_path, column):
    path = tmp_path / "a.csv"
    path.write_text(f"{column},colour\na dog,red\n")
    assert read_captions(str(path)).captions == (Caption(caption_id=0, image_id=-1, text="a dog"),)


def test_targets_name_the_classes_outright(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("caption,class,targets\nan animal,dog,cat;sofa\n")
    assert [c.classes for c in read_captions(str(path)).captions] == [("cat", "sofa")]


def test_lists_of_classes(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "x"}\n{"text": "y", "classes": ["cat", " dog "]}\n{"text": "z", "classes": null}'
    )
    rows = [{"text": "x", "classes": []}, {"text": "y", "classes": ["cat", "dog"]}]
    (tmp_path / "a.parquet").write_bytes(as_parquet(rows))
    for name in ("a.jsonl", "a.parquet"):
        captions = read_captions(str(tmp_path / name)).captions
        assert [caption.classes for caption in captions][:2] == [(), ("cat", "dog")]


def test_remote_urls():
    with fsspec.open("memory://folder/captions.csv.gz", "wb") as file:
        file.write(gzip.compress(as_csv()))
    assert read_captions("memory://folder/captions.csv.gz").captions == EXPECTED


def test_real_captions(shared):
    file = read_captions(str(shared / "data/coco/captions_val2017.json"))
    assert (len(file.captions), file.format) == (25_014, "coco")
    assert file.captions[0].caption_id == 38
    instances = read_instances(str(shared / "data/coco/instances_val2017_79images.json"), VOC)
    assert len(instances.image_ids) == 79
    assert all(1 <= instance.class_id <= 20 for instance in instances.instances)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.json", b"", "cannot be read as JSON"),
        ("a.json", b"{", "cannot be read as JSON"),
        ("a.json", b"[" * 200_000, "cannot be read as JSON"),
        ("a.json", b'{"annotations": [' + b"9" * 5000 + b"]}", "cannot be read as JSON"),
        ("a.json", b"[]", "got a list"),
        ("a.json", b'{"info": 1, "boxes": 2}', "'info', 'boxes'"),
        ("a.json", b'{"annotations": []}', "holds none"),
        ("a.json", b'{"annotations": [3]}', "expected objects"),
        ("a.json", b'{"annotations": [{"category_id": 3}]}', "plan.instances"),
        ("a.json", b'{"annotations": [{"caption": 3, "id": 1, "image_id": 1}]}', "expected text"),
        ("a.json", b'{"annotations": [{"caption": "", "id": "1"}]}', "'id', got '1'"),
        ("a.json", b'{"annotations": [{"caption": "", "id": true}]}', "'id', got True"),
        ("a.json", b'{"annotations": [{"caption": "", "id": 1}]}', "'image_id', got None"),
        (
            "a.json",
            b'{"annotations": [{"caption": "\\ud800", "id": 1, "image_id": 1}]}',
            "U+D800",
        ),
        ("a.json", b'{"a":\n\n"\xff"}', "line 3: expected UTF-8, got byte 0xff"),
        ("a.csv", b"", "holds none"),
        ("a.csv", b"id,words\n1,x\n", "found 'id', 'words'"),
        ("a.csv", b"id,caption\n1,x,y\n", "line 2: expected 2 fields"),
        ("a.csv", b"id,caption\n1\n", "line 2: expected 2 fields"),
        ("a.csv", b"id,caption\n\n1.5,x\n", "line 3: expected an integer"),
        ("a.csv", b"id,caption\n99999999999999999999,x\n", "line 2: expected an integer"),
        ("a.csv", "id,caption\n٣,x\n".encode(), "line 2: expected an integer"),
        ("a.csv", b"image_id,caption\n,x\n", "line 2: expected an integer"),
        ("a.csv", b'caption\n"x" y\n', "line 2: malformed CSV"),
        ("a.csv", b'caption\n"x\n', "malformed CSV"),
        ("a.csv", b"caption\n" + b"x" * 200_000, "malformed CSV"),
        ("a.csv", b"caption,caption\nx,y\n", "stands twice"),
        ("a.jsonl", b'{"text": "x"}\n{"text"', "line 2: malformed JSON"),
        ("a.jsonl", b'{"text": "x"}\n\n[]', "line 3: expected a JSON object"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 5}', "line 2: expected text"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "x", "id": 5}', "line 1: expected an integer"),
        ("a.jsonl", b'{"text": "x", "class": 5}', "line 1: expected class names"),
        ("a.jsonl", b'{"id": 1}', "found 'id'"),
        ("a.parquet", b"PAR1", "cannot be read as Parquet"),
        ("a.parquet", as_parquet()[:-9], "cannot be read as Parquet"),
        ("a.parquet", as_parquet([{"words": "x"}]), "found 'words'"),
        ("a.parquet", as_parquet([{"text": 3}]), "row 1: expected text"),
        ("a.parquet", as_parquet([{"text": None}, {"text": "x"}]), "row 1: expected text"),
        ("a.parquet", as_parquet([{"text": "x", "id": 1.0}]), "row 1: expected an integer"),
        ("a.txt", b"", "holds none"),
        ("a.txt", b"caf\xe9", "line 1: expected UTF-8"),
        ("a.png", b"", "expected a name that ends in"),
        ("a", b"", "expected a name that ends in"),
        ("a.txt.gz", b"\x1f\x8bjunk", "damaged gzip"),
        ("a.txt.gz", gzip.compress(b"x" * 999, mtime=0)[:-9], "damaged gzip"),
        ("a.txt.gz", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "expected UTF-8"),
    ],
)
def test_wrong_files_are_named(tmp_path, name, content, complaint):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PlanError) as caught:
        read_captions(str(path))
    message = str(caught.value)
    assert complaint in message
    assert message.startswith(str(path))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("1,a cat, a dog,", "expected 3 fields as the header has, got 4"),
        ('1,"a cat', "close the quote that this row opens"),
        ("x,a cat,cat", "expected an integer"),
        ("1,a cat,zebra", "unknown class 'zebra'"),
    ],
)
def test_the_bad_row_of_a_long_table_is_named_by_its_line(tmp_path, row, complaint):
    """Also where the reader notices at the end of the file, or only who asks for the class."""
    path = tmp_path / "captions.csv"
    rows = [f"{number},a cat on a mat,cat" for number in range(9_000)]
    rows[200] = row
    path.write_text("\n".join(["id,caption,class", *rows]))
    with pytest.raises(PlanError) as caught:
        make_plan(PlanConfig(captions=str(path)))
    assert str(caught.value).startswith(f"{path} line 202: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "no captions are named"),
        ("missing.csv", "does not exist"),
        ("nul\0.csv", "cannot be read"),
        ("nosuch://x/y.csv", "nosuch"),
        ("memory://nothing/here.csv", "does not exist"),
    ],
)
def test_unreadable_urls(tmp_path, monkeypatch, url, complaint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError, match=complaint):
        read_captions(url)


def test_errors_of_store_clients_are_named(monkeypatch):
    class BotoCoreError(Exception):
        """Such as missing credentials, which s3fs lets through: it is no OSError."""

    def fail(*_, **__):
        raise BotoCoreError("Unable to locate credentials")

    client = types.ModuleType("botocore.exceptions")
    client.BotoCoreError = BotoCoreError
    monkeypatch.setitem(sys.modules, "botocore.exceptions", client)
    monkeypatch.setattr(MemoryFileSystem, "_open", fail)
    with pytest.raises(PlanError, match=r"memory://a.csv cannot be read: Unable to locate"):
        read_captions("memory://a.csv")


def test_folders_are_no_files(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(PlanError, match="is a folder"):
        read_captions(str(tmp_path / "a.csv"))


def test_size_is_bounded_before_unpacking(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MAX_BYTES", 100_000)
    for name, content in [
        ("large.txt", b"x" * 100_001),
        ("bomb.txt", gzip.compress(b"\0" * 50_000_000)),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PlanError, match="more than 100000 bytes"):
            read_captions(str(tmp_path / name))
    (tmp_path / "fits.txt").write_bytes(b"x" * 100_000)
    assert len(read_captions(str(tmp_path / "fits.txt")).captions) == 1


def test_instances_keep_single_objects_of_voc(write_instances):
    url = write_instances(
        [
            (1, "couch", 10.5, 0),
            (1, "zebra", 99.0, 0),
            (1, "person", 99.0, 1),
            (2, "tv", 7, 0),
            (2, "dining table", 8.0, 0),
        ],
        images=[3],
    )
    file = read_instances(url, VOC)
    assert file.instances == (
        Instance(image_id=1, class_id=18, area=10.5),
        Instance(image_id=2, class_id=20, area=7.0),
        Instance(image_id=2, class_id=11, area=8.0),
    )
    assert file.image_ids == {1, 2, 3}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"categories": None}, "expected COCO's list 'categories'"),
        ({"images": [{"id": "1"}]}, "image 0: expected an integer"),
        ({"categories": [{"id": None}]}, "category 0: expected an integer"),
        ({"annotations": [{"category_id": 99, "image_id": 1}]}, "category 99 is not among"),
        ({"annotations": [{"category_id": 17, "image_id": 1, "area": "big"}]}, "expected 'area'"),
        ({"annotations": [{"category_id": 17, "image_id": 1, "area": -1}]}, "expected 'area'"),
        ({"annotations": [{"category_id": 17, "image_id": 1, "area": 10**400}]}, "expected 'area'"),
        ({"annotations": [{"category_id": 17, "image_id": 1}]}, "got None"),
    ],
)
def test_wrong_instances_are_named(tmp_path, write_instances, change, complaint):
    url = write_instances([(1, "cat", 5, 0)])
    data = json.loads((tmp_path / "instances.json").read_text()) | change
    (tmp_path / "instances.json").write_text(json.dumps(data))
    with pytest.raises(PlanError, match=complaint):
        read_instances(url, VOC)


def assert_read_or_named(read, path):
    """Any exception but PlanError goes on; PlanError must name the file, in one line."""
    try:
        read(str(path))
    except PlanError as caught:
        message = str(caught)
    else:
        return
    assert str(path) in message
    assert "\n" not in message


WHOLE = {**TABLES, "a.json": as_coco(), "a.txt": b"a\nb", "a.csv.gz": gzip.compress(as_csv())}


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(sorted(WHOLE)),
    junk=st.binary(max_size=60),
    keep=st.integers(0, 2000),
    place=st.integers(0, 2000),
    whole=st.booleans(),
)
def test_no_bytes_give_a_traceback(tmp_path, name, junk, keep, place, whole):
    content = WHOLE[name][:keep] if whole else b""
    path = tmp_path / name
    path.write_bytes(content[:place] + junk + content[place:])
    for read in (read_captions, lambda url: read_instances(url, VOC)):
        assert_read_or_named(read, path)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("annotations", "images", "categories", "id", "image_id", "caption"),
                    *("category_id", "area", "iscrowd", "name", "text", "class"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=JSON_VALUES, name=st.sampled_from(["a.json", "a.jsonl"]))
def test_no_json_gives_a_traceback(tmp_path, data, name):
    path = tmp_path / name
    path.write_text(json.dumps(data))
    for read in (read_captions, lambda url: read_instances(url, VOC)):
        assert_read_or_named(read, path)
