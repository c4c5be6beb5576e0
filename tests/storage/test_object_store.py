"""The store in a bucket of a real S3 server: what `LocalStore` promises, and how it is reached."""

import io
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ovamgen.errors import ConfigError, ShardError
from ovamgen.storage.filesystems import PART_BYTES
from ovamgen.storage.object_store import ObjectStore
from ovamgen.storage.store import LocalStore, open_store


@pytest.fixture
def bucket(any_bucket):
    return any_bucket


in_another_process = pytest.mark.parametrize(
    "any_bucket",
    ["s3", *(pytest.param(store, marks=pytest.mark.slow) for store in ("gs", "az"))],
    indirect=True,
)
"""Of one store every day, since it takes long."""


@pytest.fixture
def store(bucket):
    return open_store(bucket.url)


def test_other_schemes_are_object_stores(bucket):
    store = open_store(f"{bucket.url}/")
    assert isinstance(store, ObjectStore)
    assert store.url == bucket.url
    assert isinstance(open_store("local:///a/b"), LocalStore)


def test_an_empty_place_has_nothing(store, bucket):
    assert store.list() == []
    assert store.size("a") is None
    assert not store.exists("manifests/000000.json")
    assert store.holder() is None
    store.delete("a")
    for read in (store.read, store.open):
        with pytest.raises(ShardError, match=f"cannot read a in {bucket.url}: .*no such file"):
            read("a")
    assert bucket.names() == []


def test_put_read_replace_delete(store, bucket):
    store.put("metadata/a", b"one")
    store.put("metadata/a", b"three")
    assert store.read("metadata/a") == b"three"
    assert store.size("metadata/a") == 5
    assert bucket.names() == ["corpora/out/metadata/a"]
    with store.open("metadata/a") as file:
        assert file.seekable()
        file.seek(1)
        assert file.read() == b"hree"
    store.put("empty", b"")
    assert store.read("empty") == b""
    assert store.open("empty").read() == b""
    store.delete("metadata/a")
    assert not store.exists("metadata/a")


def test_list_is_by_prefix_sorted_and_hides_what_is_the_stores_own(store, bucket):
    with store.lock(), store.scratch():
        for name in ("train-000001.tar", "train-000000.tar", "manifests/0.json", "a/b/c", "z"):
            store.put(name, name.encode())
        # a neighbour whose name begins alike, and the mark of an empty folder
        bucket.put("corpora/out2/x", b"x")
        bucket.mark_folder("corpora/out/empty/")
        everything = ["a/b/c", "manifests/0.json", "train-000000.tar", "train-000001.tar", "z"]
        assert store.list() == everything
        assert "corpora/out/.lock" in bucket.names()
    assert store.list("train-") == ["train-000000.tar", "train-000001.tar"]
    assert store.list("manifests/") == ["manifests/0.json"]
    assert store.list("man") == ["manifests/0.json"]
    assert store.list("nothing/") == []
    assert store.sizes("z") == {"z": 1}
    assert "corpora/out/.lock" not in bucket.names()


def test_a_bucket_itself_is_a_store(bucket):
    store = open_store(f"{bucket.store}://{bucket.name}")
    store.put("a/b", b"1")
    assert (store.list(), store.read("a/b"), bucket.names()) == (["a/b"], b"1", ["a/b"])


def test_listings_are_not_remembered(store, bucket):
    store.put("a", b"1")
    assert store.sizes() == {"a": 1}
    bucket.put("corpora/out/a", b"12")
    bucket.put("corpora/out/b", b"1")
    assert store.sizes() == {"a": 2, "b": 1}
    assert store.size("a") == 2


def test_create_only_where_there_is_none(store):
    assert store.create("manifests/0.json", b"first")
    assert not store.create("manifests/0.json", b"second")
    # the same content: it may be the own request, whose answer was lost
    assert store.create("manifests/0.json", b"first")
    assert store.read("manifests/0.json") == b"first"


def test_of_many_creators_one_wins(store):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.create("record", bytes([n]) * 1000), range(32)))
    assert sum(won) == 1
    assert store.read("record") == bytes([won.index(True)]) * 1000


def test_publish_file_uploads_in_parts_and_appears_whole(store, bucket):
    content = bytes(range(256)) * (3 * PART_BYTES // 256) + b"end"
    with store.scratch() as folder:
        path = folder / "x.tar"
        path.write_bytes(content)
        store.publish_file(path, "deep/er/x.tar")
        assert not path.exists()
    assert bucket.get("corpora/out/deep/er/x.tar") == content
    assert not folder.exists()
    assert store.read("deep/er/x.tar") == content


def test_open_reads_like_a_file(store):
    content = bytes(i * 7 % 251 for i in range(3 << 20))
    store.put("x", content)
    real = io.BytesIO(content)
    with store.open("x") as file:
        for place, count in [(0, 10), (300_000, 70_000), (299_999, 2), (2_900_000, 10**6), (5, -1)]:
            file.seek(place)
            real.seek(place)
            assert file.read(count) == real.read(count)
        assert file.seek(-7, io.SEEK_END) == len(content) - 7
        assert file.read() == content[-7:]
        assert file.read() == b""
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)


@pytest.mark.parametrize("size", [5, PART_BYTES + 5])
def test_no_more_is_read_than_a_file_may_have(store, size):
    store.put("a", bytes(size))
    assert store.read("a", size) == bytes(size)
    with pytest.raises(ShardError, match=rf"a in .* must have at most {size - 1} bytes"):
        store.read("a", size - 1)


def test_reading_on_takes_few_requests_and_a_jump_a_small_one(store, bucket):
    store.put("x", bytes(4 << 20))
    with bucket.faulty() as proxy:
        with store.open("x") as file:
            while file.read(10_000):
                pass
        # one for the size, then 256 KiB, 512 KiB, 1 MiB, 2 MiB, the rest
        assert proxy.met["requests"] == 6
        with store.open("x") as file:
            file.seek(3_000_000)
            assert len(file.read(1000)) == 1000
        assert proxy.met["requests"] == 8


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../b", "a//b", ".", "a\0b"])
def test_names_cannot_leave_the_store(store, name):
    for act in (
        store.read,
        store.size,
        store.delete,
        lambda n: store.put(n, b""),
        lambda n: store.create(n, b""),
    ):
        with pytest.raises(ShardError, match="must be relative"):
            act(name)


READ_IT = """
import pickle, sys
print(pickle.loads(bytes.fromhex(sys.argv[1])).read("a").decode())
"""


@in_another_process
def test_stores_travel_to_other_processes_without_credentials(store, bucket):
    store.put("a", b"from here")
    packed = pickle.dumps(store)
    assert not [secret for secret in bucket.secrets if secret.encode() in packed]
    done = subprocess.run(
        [sys.executable, "-c", READ_IT, packed.hex()], capture_output=True, text=True, check=True
    )
    assert done.stdout == "from here\n"
    assert repr(pickle.loads(packed)) == f"ObjectStore('{store.url}')"


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("s3://AKIA123:sec/ret+key@bucket/out", "sec/ret"),
        ("s3://AKIA123:9/secret@bucket/out", "secret"),
        ("s3://someone@bucket/out", "someone"),
        ("sftp://me:pass@host/out", "pass"),
        ("https://token@host/a.csv", "token"),
        ("s3://bucket/out?AWSAccessKeyId=AKIA9&Signature=abc", "AKIA9"),
        ("s3://bucket/out?X-Amz-Security-Token=abcdef", "abcdef"),
        ("abfs://container:key@account/out", "key@"),
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url, hidden):
    with pytest.raises(ConfigError, match="expected a URL without credentials") as info:
        open_store(url)
    assert hidden not in str(info.value)
    assert hidden not in repr(info.value.__cause__)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("simplecache::s3://bucket/a", "one store"),
        ("memory://a", "gone with its process"),
        ("https://host/a", "cannot be listed"),
        ("nosuch://a/b", "unknown scheme 'nosuch'"),
        ("s3://", "s3://BUCKET/FOLDER"),
        ("s3://bucket/a?x=1", "without ? and #"),
    ],
)
def test_urls_that_name_no_store(url, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        open_store(url)


@pytest.mark.parametrize(("library", "scheme"), [("s3fs", "s3"), ("gcsfs", "gs"), ("adlfs", "az")])
def test_a_missing_library_is_named_with_its_extra(library, scheme):
    extra = {"s3": "s3", "gs": "gcs", "az": "azure"}[scheme]
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from ovamgen.errors import ConfigError\n"
        "from ovamgen.storage.store import open_store\n"
        f"try: open_store('{scheme}://bucket/out')\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install 'ovamgen[{extra}]'" in done.stdout


def test_local_work_does_not_load_the_libraries_of_stores(tmp_path):
    code = (
        "import sys\n"
        "from ovamgen.storage.store import open_store\n"
        f"open_store({str(tmp_path)!r}).put('a', b'1')\n"
        "print([name for name in ('s3fs', 'botocore', 'aiohttp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


KILLED = """
import os, sys
from ovamgen.storage.store import open_store
with open_store(sys.argv[1]).scratch() as folder:
    (folder / "half").write_bytes(b"x")
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""


@in_another_process
def test_sweep_removes_scratch_of_the_dead_and_leaves_that_of_the_living(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, store.url], capture_output=True, text=True, check=False
    )
    dead = done.stdout.strip()
    assert dead.startswith(str(tmp_path))
    with store.scratch() as mine:
        (mine / "file").write_bytes(b"x")
        assert store.sweep() in (0, 1)  # the first scratch of a process sweeps as well
        assert mine.is_dir()
        assert not (tmp_path / dead).exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_without_conditional_creation_it_looks_first():
    """Other filesystems of fsspec; this one lives in its process and is no store of a run."""
    store = ObjectStore("memory://somewhere/out")
    assert store.create("record", b"first")
    assert not store.create("record", b"second")
    assert store.read("record") == b"first"
    store.put("a/b", b"12345")
    assert store.sizes() == {"a/b": 5, "record": 5}
    assert store.sizes("a/") == {"a/b": 5}
    with store.open("a/b") as file:
        file.seek(2)
        assert file.read() == b"345"
    store.delete("a/b")
    store.delete("a/b")
    assert store.list() == ["record"]
