"""JSON and YAML: values of other types, numbers and depths that cost more than they look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.attacks import DEEP_JSON, DEEP_LIST, LAUGHS, MERGES
from tests.hostile.forging import attacks, change_json, change_yaml, one_after_another, put, set_at
from tests.hostile.world import CORPUS, RECORD, VIEW

_WRONG: dict[str, Any] = {"a list": [1], "a number": 7, "text": "x", "null": None, "true": True}


def _record(**changes: Any) -> Callable[[Path], None]:
    return change_json(f"{CORPUS}/{RECORD}", lambda values: values.update(changes))


def _run(*path: str | int, to: Any) -> Callable[[Path], None]:
    return change_yaml(f"{CORPUS}/run.yaml", set_at(*path, to=to))


def _both(*path: str | int, to: Any) -> Callable[[Path], None]:
    """In ``run.yaml`` and in the manifest."""
    in_manifest = change_json(f"{CORPUS}/manifest.json", set_at("run", *path, to=to))
    return one_after_another(_run(*path, to=to), in_manifest)


def _view(*path: str | int, to: Any) -> Callable[[Path], None]:
    return change_json(f"{VIEW}/selection.json", set_at(*path, to=to))


def _append(name: str, line: bytes) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / name
        path.write_bytes(path.read_bytes() + line)

    return damage


def _many_records(count: int) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        text = (root / CORPUS / RECORD).read_text()
        for index in range(1, count):
            made = text.replace('"shard_index":0', f'"shard_index":{index}')
            made = made.replace("train-000000.tar", f"train-{index:06d}.tar")
            (root / CORPUS / "manifests" / f"{index:06d}.json").write_text(made)

    return damage


def _record_twice(root: Path) -> None:
    path = root / CORPUS / RECORD
    (path.parent / "000001.json").write_bytes(path.read_bytes())


def _record_in_a_folder(root: Path) -> None:
    path = root / CORPUS / RECORD
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "000000.json").write_bytes(path.read_bytes())


def _record_999999999(root: Path) -> None:
    text = (root / CORPUS / RECORD).read_text()
    made = text.replace('"shard_index":0', '"shard_index":999999999')
    made = made.replace("train-000000.tar", "train-999999999.tar")
    (root / CORPUS / "manifests" / "999999999.json").write_text(made)


_SECTIONS = ("config", "inputs", "identity", "model", "versions", "derived", "fingerprint")
_INNER = (("config", "shards"), ("config", "masks"), ("config", "plan"), ("config", "model"))

ATTACKS = [
    *attacks(
        "JSON and YAML",
        CORPUS,
        {
            "record deep": put(f"{CORPUS}/{RECORD}", DEEP_JSON),
            "record of 64 MB": put(f"{CORPUS}/{RECORD}", lambda: b"x" * (64 << 20)),
            "record twice": _record_twice,
            "record in a folder": _record_in_a_folder,
            "record 999999999": _record_999999999,
            "record that names a path": _record(name="../outside/id_ed25519"),
            "record of 10^4000 samples": put(
                f"{CORPUS}/{RECORD}", b'{"samples":' + b"9" * 4000 + b"}"
            ),
            "record with negative counts": _record(samples=-5, failed=-1, size_bytes=-1),
            "record of 2^70 samples": _record(samples=2**70, size_bytes=2**70),
            "record with another fingerprint": _record(fingerprint="\x1b]0;owned\x07"),
            "30,000 records": _many_records(30_000),
            "manifest deep": put(f"{CORPUS}/manifest.json", DEEP_LIST),
            "manifest of 300 MB": put(
                f"{CORPUS}/manifest.json", lambda: b'{"shards":[' + b"{}," * 10**8 + b"{}]}"
            ),
            "manifest with a number of 10^6 digits": put(
                f"{CORPUS}/manifest.json", b'{"samples":' + b"9" * 10**6 + b"}"
            ),
            **{
                f"manifest: {name} is {what}": change_json(
                    f"{CORPUS}/manifest.json", set_at(name, to=wrong)
                )
                for name in ("shards", "run", "files", "samples")
                for what, wrong in _WRONG.items()
            },
            "manifest is a list": put(f"{CORPUS}/manifest.json", b"[]"),
            "run.yaml: billion laughs": put(f"{CORPUS}/run.yaml", LAUGHS.encode()),
            "run.yaml: merged laughs": put(f"{CORPUS}/run.yaml", MERGES.encode()),
            "run.yaml: deep": put(f"{CORPUS}/run.yaml", DEEP_LIST),
            "run.yaml: a sexagesimal number": _append(
                f"{CORPUS}/run.yaml", b"zz: 1" + b":59" * 10**6 + b"\n"
            ),
            "run.yaml: a hexadecimal number of 3 MB": _append(
                f"{CORPUS}/run.yaml", b"zz: 0x" + b"f" * 3_000_000 + b"\n"
            ),
            "run.yaml: a binary number of 3 MB": _append(
                f"{CORPUS}/run.yaml", b"zz: 0b" + b"1" * 3_000_000 + b"\n"
            ),
            "run.yaml: a decimal number of 3 MB": _append(
                f"{CORPUS}/run.yaml", b"zz: " + b"9" * 3_000_000 + b"\n"
            ),
            "run.yaml: code": put(
                f"{CORPUS}/run.yaml", b"!!python/object/apply:os.system ['touch CODE_RAN']\n"
            ),
            "run.yaml: 16 MB": put(
                f"{CORPUS}/run.yaml", lambda: b"a: [" + b"1, " * 5_500_000 + b"1]"
            ),
            **{
                f"run: {name} is {what}": _both(name, to=wrong)
                for name in _SECTIONS
                for what, wrong in _WRONG.items()
            },
            **{
                f"run: {'.'.join(path)} is {what}": _both(*path, to=wrong)
                for path in _INNER
                for what, wrong in _WRONG.items()
            },
            "run: steps of 10^30": _both("config", "synthesis", "steps", to=10**30),
            "run: model id is a list": _both("model", "id", to=[1, 2]),
            "run: split is a path": _both("config", "shards", "split", to="../outside/x"),
            "run: masks.tau is text": _both("config", "masks", "tau", to="high"),
            "log deep": one_after_another(
                lambda root: (root / CORPUS / "logs").mkdir(exist_ok=True),
                put(f"{CORPUS}/logs/progress.json", DEEP_LIST),
                put(f"{CORPUS}/logs/time-000001.json", DEEP_JSON),
            ),
            "logs: 10,000 of them": lambda root: [
                (
                    (root / CORPUS / "logs").mkdir(exist_ok=True),
                    (root / CORPUS / "logs" / f"time-{i:06d}.json").write_text("{}"),
                )
                for i in range(10_000)
            ],
        },
    ),
    *attacks(
        "JSON and YAML",
        VIEW,
        {
            "selection deep": put(f"{VIEW}/selection.json", DEEP_LIST),
            "selection of 300 MB": put(
                f"{VIEW}/selection.json", lambda: b'{"a":[' + b"{}," * 10**8 + b"{}]}"
            ),
            **{
                f"{name} is {what}": _view(name, to=wrong)
                for name in ("settings", "parents", "request", "shards", "samples", "source")
                for what, wrong in _WRONG.items()
            },
            "shards by words": _view("shards", to={"first": "x"}),
            "samples without end": _view("samples", to=10**400),
            "no kind": change_json(
                f"{VIEW}/selection.json", lambda values: values.pop("kind") and None
            ),
        },
    ),
]
