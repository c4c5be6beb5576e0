import dataclasses
import hashlib
import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.bounds import MAX_MEMBER_BYTES, MAX_MEMBERS
from ovamgen.errors import ShardError
from ovamgen.records import EncodedSample
from ovamgen.shards.reader import read_tar
from ovamgen.shards.schema import METADATA_SCHEMA
from ovamgen.shards.writer import metadata_parquet, write_tar
from tests.shards.samples import make_failure, make_sample, make_samples, make_spec


def test_equal_samples_give_equal_tars(tmp_path, monkeypatch):
    first, second = tmp_path / "a.tar", tmp_path / "deeper" / "b.tar"
    second.parent.mkdir()
    digest = write_tar(first, iter(make_samples(3)))
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert write_tar(second, make_samples(3)) == digest
    content = first.read_bytes()
    assert second.read_bytes() == content
    assert digest.size_bytes == len(content)
    assert digest.sha256 == hashlib.sha256(content).hexdigest()
    assert digest.md5 == hashlib.md5(content).hexdigest()


def test_headers_are_fixed_and_members_adjacent(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, make_samples(2))
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
        assert (member.uname, member.gname, member.pax_headers) == ("", "", {})
    assert [member.name for member in members] == [
        f"0000000000{index}.{extension}"
        for index in range(2)
        for extension in ("jpg", "json", "mask.png", "txt")
    ]
    assert path.read_bytes()[257:265] == b"ustar\x0000"


@pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them open
def test_webdataset_and_our_reader_see_the_same(tmp_path):
    path = tmp_path / "a.tar"
    samples = make_samples(3)
    write_tar(path, samples)
    theirs = list(wds.DataPipeline(wds.SimpleShardList([str(path)]), wds.tarfile_to_samples()))
    with path.open("rb") as file:
        ours = list(read_tar(file, "a.tar"))
    assert [key for key, _ in ours] == [sample["__key__"] for sample in theirs]
    for (_, members), sample, original in zip(ours, theirs, samples, strict=True):
        assert members == dict(original.members)
        assert members == {k: v for k, v in sample.items() if not k.startswith("__")}


@given(
    names=st.lists(st.sampled_from(["jpg", "mask.png", "é", "x" * 88]), max_size=4, unique=True),
    sizes=st.lists(st.sampled_from([0, 1, 511, 512, 513, 9000]), min_size=4, max_size=4),
    count=st.integers(0, 4),
)
def test_the_tar_is_the_one_that_tarfile_writes(tmp_path_factory, names, sizes, count):
    """The headers are put together by hand for speed; a name of 100 bytes is the longest."""
    members = tuple((name, bytes([65]) * size) for name, size in zip(names, sizes, strict=False))
    samples = [
        EncodedSample(key=f"{index:011d}", members=members, metadata={}, previews=())
        for index in range(count)
    ]
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    digest = write_tar(path, samples)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for name, content in members:
                header = tarfile.TarInfo(f"{sample.key}.{name}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    assert path.read_bytes() == buffer.getvalue()
    assert digest.size_bytes == len(buffer.getvalue())


def test_a_tar_without_samples_reads_as_empty(tmp_path):
    path = tmp_path / "a.tar"
    assert write_tar(path, []).size_bytes == tarfile.RECORDSIZE
    with path.open("rb") as file:
        assert list(read_tar(file, "a.tar")) == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["00000000001", "00000000000"], "ascend"),
        (["00000000001", "00000000001"], "ascend"),
        (["a.b"], "without dot"),
        (["a/b"], "without dot"),
        ([""], "without dot"),
    ],
)
def test_keys_that_readers_would_mix_up_are_refused(tmp_path, keys, message):
    samples = [make_sample(make_spec(0, key=key), height=8, width=8) for key in keys]
    with pytest.raises(ShardError, match=message):
        write_tar(tmp_path / "a.tar", samples)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ShardError, match="No such file"):
        write_tar(tmp_path / "no" / "a.tar", [])


def test_a_full_disk_is_named(tmp_path):
    full = tmp_path / "a.tar"
    full.symlink_to("/dev/full")
    with pytest.raises(ShardError, match="No space left"):
        write_tar(full, make_samples(2))


def _read(folder, content):
    path = folder / "x.tar"
    path.write_bytes(content)
    with path.open("rb") as file:
        return list(read_tar(file, path.name))


def _tar_of(*entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in entries:
            header = tarfile.TarInfo(name)
            header.type = kind
            tar.addfile(header)
    return buffer.getvalue()


A, B = "00000000001", "00000000002"
FILE, FOLDER, LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a tar"),
        (b"x" * 10240, "cannot be read as a tar"),
        (_tar_of((f"{A}.jpg", FILE), (f"{B}.jpg", FILE), (f"{A}.txt", FILE)), "two places"),
        (_tar_of((f"{A}.jpg", FILE), (f"{A}.jpg", FILE)), "member once"),
        (_tar_of((f"a/{A}.jpg", FILE)), "key in digits"),
        (_tar_of(("noextension", FILE)), "key in digits"),
        (_tar_of((f"{A}.jpg", LINK)), "plain files"),
        (_tar_of((f"{A}.jpg", FOLDER)), "plain files"),
    ],
)
def test_other_tars_are_refused(tmp_path, content, message):
    with pytest.raises(ShardError, match=message):
        _read(tmp_path, content)


def test_a_tar_holds_no_more_than_its_samples_can_have(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(_tar_of(*((f"{n:011d}.jpg", FILE) for n in range(MAX_MEMBERS + 1))))
    with path.open("rb") as file:
        assert len(list(read_tar(file, "x.tar", most_samples=2))) == MAX_MEMBERS + 1
        with pytest.raises(ShardError, match=f"at most {MAX_MEMBERS} members"):
            list(read_tar(file, "x.tar", most_samples=1))


def test_no_member_is_read_that_is_larger_than_any_of_a_sample(tmp_path):
    """All of its bytes are there, on disk as a hole: only the bound keeps them out of memory."""
    path = tmp_path / "x.tar"
    header = tarfile.TarInfo("00000000000.jpg")
    header.size = MAX_MEMBER_BYTES + 1
    with path.open("wb") as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        file.truncate((header.size // tarfile.RECORDSIZE + 2) * tarfile.RECORDSIZE)
    with path.open("rb") as file:
        assert list(read_tar(file, "x.tar", keys=["00000000001"])) == []
        file.seek(0)
        with pytest.raises(ShardError, match=r"members of at most 268435456 bytes, .*268435457"):
            list(read_tar(file, "x.tar"))


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, make_samples(1, height=16, width=16))
    content = path.read_bytes()
    for size in range(0, len(content), 509):
        with pytest.raises(ShardError):
            _read(tmp_path, content[:size])


def test_metadata_has_a_row_for_every_sample_by_key():
    samples = [make_sample(make_spec(index)) for index in (0, 2)]
    data = metadata_parquet(7, samples, [make_failure(1, stage="safety", reason="unsafe")])
    table = pq.read_table(io.BytesIO(data))
    assert table.schema.metadata[b"ovamgen.shard"] == b"7"
    assert table.schema.equals(METADATA_SCHEMA)
    rows = table.to_pylist()
    assert [row["key"][-1] for row in rows] == ["0", "1", "2"]
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    for row, sample in zip(rows[::2], samples, strict=True):
        assert {name: row[name] for name in sample.metadata} == sample.metadata
        assert row["previews"] == list(sample.previews)
        assert (row["stage"], row["reason"]) == ("", "")
    failed = rows[1]
    assert (failed["stage"], failed["reason"]) == ("safety", "unsafe")
    assert failed["prompt"] == make_spec(1).prompt
    assert failed["class_names"] == ["cat"]
    assert failed["scores"] is failed["mask_sha256"] is None
    assert failed["previews"] == []


def test_a_failure_by_its_text_does_not_lose_its_neighbours():
    spec, failure = make_failure(1, stage="encoding", reason="lone \ud800")
    spec = dataclasses.replace(spec, caption="bad \udfff text")
    table = pq.read_table(pa.BufferReader(metadata_parquet(0, make_samples(1), [(spec, failure)])))
    assert table["caption"].to_pylist()[1] == "bad ? text"
    assert table["reason"].to_pylist() == ["", "lone ?"]


def test_metadata_is_deterministic_and_works_for_empty_shards(monkeypatch):
    first = metadata_parquet(0, make_samples(2), [make_failure(5)])
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert metadata_parquet(0, make_samples(2), [make_failure(5)]) == first
    for failures in ([], [make_failure(0)]):
        table = pq.read_table(pa.BufferReader(metadata_parquet(0, [], failures)))
        assert table.num_rows == len(failures)
        assert table.schema.equals(METADATA_SCHEMA)
