"""What verification finds, and in which state it says that an output is."""

import dataclasses
import hashlib
import io
import json
import shutil
import struct
import tarfile
import zlib
from functools import partial

import pytest
import yaml

from ovamgen.errors import ConfigError, VerificationError
from ovamgen.generation import generate
from ovamgen.integrity.documents import check_run_file, read_papers
from ovamgen.integrity.findings import Findings
from ovamgen.integrity.sample_check import SampleRules
from ovamgen.integrity.shard_check import ShardJob, check_shard
from ovamgen.integrity.verify import verify
from ovamgen.records import ShardRecord
from ovamgen.shards.arrays import decode_png, encode_png
from ovamgen.shards.output_files import metadata_name, record_name
from ovamgen.shards.process_pool import run_in_processes
from ovamgen.shards.shard_record import read_record, record_to_json
from ovamgen.shards.writer import tar_header
from ovamgen.storage.store import LocalStore
from tests.fakes import DiscEngine
from tests.integrity.conftest import DEAD
from tests.integrity.corruption import files_of
from tests.runs import run_config


def _files(found):
    return [(finding.file, finding.kind) for finding in found.findings]


def _tar(path):
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}


def _rewrite(path, members):
    """The members as a tar of ovamgen's own form."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            tar.addfile(tar_header(name, len(content)), io.BytesIO(content))


def _recorded(out, index):
    """Makes the record say of the shard's files what they are now: the damage is inside."""
    store = LocalStore(out)
    record = read_record(store, index)
    tar = (out / record.name).read_bytes()
    new = dataclasses.replace(
        record,
        size_bytes=len(tar),
        sha256=hashlib.sha256(tar).hexdigest(),
        md5=hashlib.md5(tar).hexdigest(),
    )
    store.put(record_name(index), record_to_json(new))
    for name in ("manifest.json", "index.json"):
        store.delete(name)


def _job(out, index):
    """A shard to check by itself, without plan and manifest."""
    run = check_run_file((out / "run.yaml").read_bytes())
    return ShardJob(
        index=index,
        name=f"train-{index:06d}.tar",
        specs=None,
        listed=None,
        fingerprint=run["fingerprint"],
        rules=SampleRules(fingerprints=frozenset({run["fingerprint"]}), heatmaps=True),
    )


def _problems(out, index=0):
    """What is found in a shard whose record was written anew."""
    _recorded(out, index)
    found = check_shard(LocalStore(out), _job(out, index))
    return " | ".join(f"{finding.file} {finding.found}" for finding in found.findings)


def test_an_output_that_nothing_disturbed_is_whole_and_stays_as_it_is(out):
    before = files_of(out)
    found = verify(str(out))
    assert found.to_json() | {"notes": []} == {
        "out": str(out),
        "layout": "run",
        "state": "complete",
        "running": False,
        "shards": 3,
        "shards_there": 3,
        "shards_without_record": (),
        "shards_checked": 3,
        "samples": 21,
        "failed": 1,
        "bytes_checked": sum(
            len(data)
            for name, data in before.items()
            if name.endswith("tar") or "metadata/" in name
        ),
        "findings": (),
        "notes": [],
        "mend": "",
        "ok": True,
        "damaged_shards": [],
    }
    assert found.notes == ()
    found.check()
    assert files_of(out) == before


def test_several_processes_find_the_same(out):
    (out / "train-000001.tar").write_bytes(b"no tar")
    (out / "metadata/000002.parquet").unlink()
    one = verify(str(out))
    jobs = [_job(out, index) for index in range(3)]
    found = {
        result.index: result
        for result in run_in_processes(
            partial(check_shard, LocalStore(out)), jobs, 2, flag="--jobs"
        )
    }
    assert [f for i in range(3) for f in found[i].findings] == list(one.findings)
    assert one.damaged_shards == (1, 2)
    with pytest.raises(VerificationError, match=r"run: ovamgen repair") as error:
        one.check()
    assert error.value.exit_code == 4


def test_an_unfinished_run_is_told_from_damage(out):
    for name in ("manifest.json", "index.json", "README.md", "contact_sheet.png"):
        (out / name).unlink()
    (out / record_name(1)).unlink()  # a kill between the tar and its record
    (out / DEAD).mkdir(parents=True)
    found = verify(str(out))
    assert (found.ok, found.findings, found.state) == (False, (), "unfinished")
    assert (found.shards, found.shards_there, found.shards_without_record) == (3, 2, (1,))
    assert "  to make  shards 1" in found.lines()
    with pytest.raises(VerificationError, match="1 of 3 shards are still to be made"):
        found.check()
    (out / "train-000000.tar").write_bytes(b"")
    found = verify(str(out))
    assert (found.state, found.damaged_shards) == ("unfinished", (0,))


def test_a_plan_alone_is_planned(out):
    for path in out.iterdir():
        if path.name != "plan.parquet":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = verify(str(out))
    assert (found.findings, found.state, found.shards, found.shards_there) == ((), "planned", 3, 0)
    assert "  to make  shards 0 to 2" in found.lines()


def test_a_record_that_is_gone_from_a_finished_output_is_damage(out):
    (out / record_name(1)).unlink()
    found = verify(str(out))
    assert _files(found) == [(record_name(1), "missing")]
    assert found.state == "complete"


def test_scratch_and_temporaries_of_the_dead_are_leftovers_and_logs_are_nobodys_business(out):
    (out / DEAD).mkdir(parents=True)
    (out / ".report.html.77.tmp").touch()
    (out / ".gitattributes").touch()
    (out / "logs" / "anything.json").write_text("{")
    with LocalStore(out).scratch():
        found = verify(str(out))
    assert _files(found) == [(".report.html.77.tmp", "leftover"), (DEAD, "leftover")]


def test_a_folder_without_anything_of_ours_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"none of plan.parquet"):
        verify(str(tmp_path))
    with pytest.raises(ConfigError):
        verify(str(tmp_path / "nowhere"))


def _papers(out):
    """Files that the papers of an output are found wrong in."""
    store, findings = LocalStore(out), Findings()
    read_papers(store, store.sizes(), findings)
    return [finding.file for finding in findings]


@pytest.mark.parametrize("name", ["run.yaml", "manifest.json", "metadata/000000.parquet"])
def test_what_cannot_be_read_is_told_in_a_sentence(out, name):
    (out / name).write_bytes(b"{")
    told = [line for line in verify(str(out)).lines() if f" {name}: " in line]
    assert "got nothing of the kind: it cannot be read as " in told[0]
    assert not any("got it " in line for line in told)


@pytest.mark.parametrize("name", ["run.yaml", "plan.parquet", "manifest.json"])
def test_every_changed_byte_of_the_papers_shows(out, name):
    """The first two are vouched for by nothing but the digests in the third."""
    original = (out / name).read_bytes()
    for place in range(0, len(original), len(original) // 23):
        data = bytearray(original)
        data[place] ^= 1 << place % 7
        (out / name).write_bytes(data)
        assert name in (_papers(out) or [f.file for f in verify(str(out)).findings]), place


def test_the_manifest_is_blamed_where_it_alone_errs(out):
    manifest = json.loads((out / "manifest.json").read_text())
    for change in ("files", "shards"):
        altered = json.loads(json.dumps(manifest))
        if change == "files":
            altered["files"]["plan.parquet"] = "0" * 64
        else:
            altered["shards"][1]["sha256"] = "0" * 64
        text = json.dumps(altered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        (out / "manifest.json").write_text(text)
        assert [f.file for f in verify(str(out)).findings] == ["manifest.json"]


def test_a_manifest_without_digests_is_of_an_older_version_and_no_damage(out):
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["files"], manifest["run_sha256"]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (out / "manifest.json").write_text(text)
    found = verify(str(out))
    assert found.ok
    assert "recorded no digests" in found.notes[0]


# ---- what lies inside tars whose record is right


def _change(out, extension, change, index=0):
    path = out / f"train-{index:06d}.tar"
    members = _tar(path)
    name = next(name for name in members if name.endswith(extension))
    members[name] = change(members[name])
    _rewrite(path, members)
    return _problems(out, index)


def test_wrong_ids_in_a_mask_are_found(out):
    def other_ids(data):
        labels = decode_png(data).copy()
        labels[:4] = 17
        return encode_png(labels)

    assert "the mask's pixels are not those recorded" in _change(out, "mask.png", other_ids)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("key", "00000000077", "the key 00000000077 in its json"),
        ("class_ids", [8, 8], "lists must have one entry"),
        ("class_ids", [15], "which are none of its targets"),
        ("fingerprint", "f" * 64, "the fingerprint ffffffffffff of another run"),
        ("caption", "a lie", "another caption in the txt member"),
        ("height", 10**7, "an image of 10000000 x 64 pixels"),
        ("width", "wide", "metadata field width must be of type int64"),
        ("steps", True, "metadata field steps"),
        ("tau", 0.123, "other tau in its json than in the metadata table"),
        ("schema_version", 9, "schema version 9"),
        ("more", 1, "unknown ['more']"),
    ],
)
def test_what_a_json_member_may_not_say(out, field, value, said):
    def other(data):
        values = json.loads(data) | {field: value}
        return json.dumps(
            values, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    assert said in _change(out, ".json", other)


@pytest.mark.parametrize("data", [b"[" * 500_000, b"{}", b"\xff", b"9" * 9000, b'{"a":NaN}'])
def test_json_that_is_meant_to_hurt(out, data):
    assert "json member" in _change(out, ".json", lambda _: data)


def _bomb(height, width):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(width + 1) * 64, 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_a_png_that_declares_gigapixels_is_not_decoded(out):
    assert "3600000000 pixels" in _change(out, "mask.png", lambda _: _bomb(60000, 60000))


def test_a_picture_and_its_json_that_agree_on_gigapixels_are_not_decoded(out):
    path = out / "train-000000.tar"
    members = _tar(path)
    values = json.loads(members["00000000000.json"]) | {"height": 60000, "width": 60000}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    members["00000000000.json"] = text.encode()
    members["00000000000.mask.png"] = _bomb(60000, 60000)
    _rewrite(path, members)
    assert "an image of 60000 x 60000 pixels" in _problems(out)


def test_members_that_are_missing_too_many_or_twice(out):
    path = out / "train-000000.tar"
    members = _tar(path)
    without = {n: c for n, c in members.items() if n != "00000000000.txt"}
    _rewrite(path, without)
    assert "the members heatmaps.npz, jpg, json, mask.png instead of" in _problems(out)
    _rewrite(path, members | {"00000000000.exe": b""})
    assert "ascending keys" not in _problems(out)
    swapped = dict(sorted(members.items(), key=lambda item: item[0][:11] != "00000000003"))
    _rewrite(path, swapped)
    assert "the key 00000000000" in _problems(out)


def test_a_member_that_declares_ten_gigabytes_is_not_read(out):
    path = out / "train-000000.tar"
    data = path.read_bytes()
    header = tar_header("00000000000.heatmaps.npz", 8 * 1024**3 - 1).tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(header + data[512:])
    assert "declares 8589934591" in _problems(out)


@pytest.mark.parametrize("at", [100, 136, 156, 265])
def test_every_field_of_a_tar_header_is_looked_at(out, at):
    """Also with a right checksum: mode, mtime, kind and owner are fixed."""
    path = out / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[at] = ord("1")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    assert "header" in _problems(out)


def test_bytes_behind_the_end_of_a_tar(out):
    path = out / "train-000000.tar"
    path.write_bytes(path.read_bytes() + bytes(10240))
    assert "got more bytes" in _problems(out)


def test_metadata_that_is_huge_or_of_another_shard(out):
    store = LocalStore(out)
    store.put(metadata_name(0), store.read(metadata_name(1)))
    assert "it says that it is of shard b'1'" in _problems(out)


def test_yaml_that_is_meant_to_hurt(out):
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for letter, before in zip("bcdefghij", "abcdefghi", strict=True):
        bomb += f"{letter}: &{letter} [{','.join(['*' + before] * 9)}]\n"
    for text in (bomb, "[" * 100_000, "a: 2001-99-99\n", "? [1]\n: 2\n", "\x00", yaml.dump([1])):
        (out / "run.yaml").write_text(text)
        assert _papers(out) == ["run.yaml"], text[:40]


def test_records_that_are_meant_to_hurt(out):
    for data in (b"[" * 60_000, b"{" + b" " * 100_000 + b"}", b'{"schema_version":7}', b"\xff"):
        (out / record_name(1)).write_bytes(data)
        found = check_shard(LocalStore(out), _job(out, 1))
        assert [(f.file, f.kind) for f in found.findings] == [(record_name(1), "damaged")]


def test_a_shard_of_another_run_is_found(out):
    store = LocalStore(out)
    record = json.loads(store.read(record_name(1))) | {"fingerprint": "a" * 64}
    store.put(record_name(1), record_to_json(ShardRecord(**record)))
    assert _files(verify(str(out))) == [(record_name(1), "damaged")]


@pytest.mark.parametrize(
    "sections",
    [
        {"synthesis": {"append_class_words": True}},
        {"attribution": {"method": "grounded"}},
    ],
)
def test_what_a_plan_is_not_made_of_does_not_make_it_another(tmp_path, sections):
    """A head is an input of the run, and the words behind a caption a setting of the drawing."""
    config = run_config(tmp_path, 3, runtime={"runner": "local"}, **sections)
    generate(config, DiscEngine)
    assert verify(config.out).findings == ()
