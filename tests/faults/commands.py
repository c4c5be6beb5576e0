"""Every command that writes, but a plain `generate`: how it is told to, what it must leave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovamgen.config import build_config
from ovamgen.generation import generate
from ovamgen.pictures.draw import draw_samples
from ovamgen.pictures.sample_folder import Sample, save_mask
from tests.fakes import DiscEngine
from tests.faults.disturbed import Disturber
from tests.hostile.world import CORPUS, TABLE, write_specimen
from tests.runs import digests

_DEMO = (
    *("--captions", "demo", "--model", "mini", "--set", "runtime.runner=local"),
    *("--set", "plan.shard_size=3", "--set", "plan.batch_size=2"),
)
_NETWORK = ("--crop", "32", "--batch-size", "2", "--device", "cpu")
_HEAD = ("width=16", "feedforward=16", "heads=2", "layers=2", "widths=[4,4,4]")


def _nothing(world: Path) -> None:
    pass


def _damage(world: Path) -> None:
    """What `repair` has to do: a shard without its table, an output without its manifest."""
    (world / CORPUS / TABLE).unlink()
    (world / CORPUS / "manifest.json").unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A command that writes."""

    arguments: tuple[str, ...]
    watched: str = "out"
    """The folder that it writes to."""
    prepare: Callable[[Path], None] = _nothing
    """Changes the world before it."""


WRITERS: dict[str, Writer] = {
    "select": Writer(arguments=("select", CORPUS, "--out", "out", "--area-quantiles", "none")),
    "select --copy": Writer(
        arguments=("select", CORPUS, "--out", "out", "--area-quantiles", "none", "--copy")
    ),
    "reannotate": Writer(
        arguments=("reannotate", CORPUS, "--out", "out", "--tau", "0.5", "--workers", "1"),
    ),
    **{
        f"export {name}": Writer(arguments=("export", name, CORPUS, "--out", "out"))
        for name in ("voc", "hf", "coco", "ultralytics", "cvat", "labelstudio", "parquet")
    },
    "report": Writer(arguments=("report", CORPUS), watched=CORPUS),
    "report --out": Writer(
        arguments=("report", CORPUS, "--out", "out/page.html"),
        prepare=lambda world: (world / "out").mkdir(exist_ok=True),
    ),
    "train": Writer(
        arguments=("train", "--shards", CORPUS, "--out", "out", "--steps", "2", *_NETWORK)
    ),
    "tokens optimize": Writer(
        arguments=(
            *("tokens", "optimize", "--samples", "drawn", "--out", "out/bank.safetensors"),
            *("--steps", "2", "--report", "out/report", "--device", "cpu"),
        ),
        prepare=lambda world: (world / "out").mkdir(exist_ok=True),
    ),
    "tokens merge": Writer(
        arguments=(
            *("tokens", "merge", "bank.safetensors", "bank.safetensors"),
            *("--out", "out/new.safetensors", "--prefer", "first"),
        ),
        prepare=lambda world: (world / "out").mkdir(exist_ok=True),
    ),
    "heads train": Writer(
        arguments=(
            *("heads", "train", "grounded", "--pictures", "mini", "--model", "mini"),
            *("--limit", "4", "--steps", "2", "--held-out", "0.25"),
            *(part for value in _HEAD for part in ("--set", value)),
            *("--out", "out/head.safetensors"),
        ),
        prepare=lambda world: (world / "out").mkdir(exist_ok=True),
    ),
    "annotate save": Writer(arguments=("annotate save",), watched="samples"),
    "repair": Writer(
        arguments=("repair", CORPUS, "--jobs", "1", "--set", "runtime.runner=local"),
        watched=CORPUS,
        prepare=_damage,
    ),
    "repair --failed": Writer(
        arguments=("repair", "unlucky", "--failed", "--set", "runtime.runner=local"),
        watched="unlucky",
    ),
    "generate --extend": Writer(
        arguments=("generate", *_DEMO, "--limit", "7", "--out", "grown", "--extend"),
        watched="grown",
    ),
    "label": Writer(
        arguments=(
            *("label", "--pictures", "mini", "--captions", "shown.csv", "--model", "mini"),
            *("--shard-size", "2", "--set", "runtime.runner=local", "--out", "out"),
        ),
    ),
    "generate --until-per-class": Writer(
        arguments=(
            *("generate", *_DEMO, "--set", "plan.classes=[cat, dog]", "--limit", "2"),
            *("--until-per-class", "1", "--budget", "12", "--out", "out"),
        ),
    ),
    "evaluate table-s1": Writer(
        arguments=("evaluate", "table-s1", "--config", "table.yaml", "--out", "out"),
    ),
}
"""By the name of the command."""


class _Unlucky(DiscEngine):
    """Fails with the second sample, until it is tried again."""

    def synthesise(self, specs):
        if any(spec.key.endswith("00001") and spec.retry is None for spec in specs):
            raise RuntimeError("bad luck")
        return super().synthesise(specs)


def write_world(root: Path, tiny_model: Path) -> None:
    """A healthy one of everything that the commands read."""
    write_specimen(root, tiny_model)
    shutil.rmtree(root / "outside")
    shown = "".join(f"val_00000{number},cat\n" for number in range(3))
    (root / "shown.csv").write_text(f"picture,classes\n{shown}")
    (root / "captions.csv").write_text("id,caption\n1,a photograph of a cat\n2,a photo of a dog\n")
    for name, engine in (("grown", DiscEngine), ("unlucky", _Unlucky)):
        config = {
            "plan": {"captions": "demo", "limit": 4, "shard_size": 3, "batch_size": 2},
            "model": {"id": "mini"},
            "out": str(root / name),
            "runtime": {"runner": "local"},
        }
        generate(build_config(config), engine)
    # drawn in earnest: an optimisation compares what it draws again with what is there
    sample = Sample(key="cat-0", class_name="cat", prompt="a photograph of a cat", seed=1)
    config = build_config({"model": {"id": "mini"}, "synthesis": {"steps": 1}})
    drawn = draw_samples(config, [sample], root / "drawn").folder
    square = np.zeros((128, 128), np.bool_)
    square[32:96, 32:96] = True
    save_mask(square, drawn.annotation_path(sample))
    table = {
        "images": 2,
        "generate": {
            "plan": {"captions": "captions.csv", "shard_size": 2, "batch_size": 2},
            "model": {"id": "mini"},
            "synthesis": {"steps": 1},
            "runtime": {"runner": "local"},
        },
        "train": {"steps": 1, "batch_size": 2, "crop_px": 32},
        "voc": "voc",
        "rows": [{"name": "words", "preset": "paper", "tokens": "words"}],
    }
    (root / "table.yaml").write_text(json.dumps(table))


def left(world: Path, watched: str) -> dict[str, str]:
    """sha256 by name of what a command left; what has clocks in it is left out."""
    return {
        name: digest
        for name, digest in digests(world / watched).items()
        if "tensorboard" not in name and "/logs/" not in name and not name.endswith(".lock")
    }


class Case:
    """One command in copies of the world."""

    def __init__(self, name: str, disturber: Disturber, original: Path, folder: Path) -> None:
        self.name, self.writer = name, WRITERS[name]
        self._disturber, self._original = disturber, original
        # one path for all: it stands in what some commands write
        self.world = folder / "world"
        self.reset()
        self.before = left(self.world, "")
        done = self.run()
        assert done.code == 0, done.said
        self.wanted = left(self.world, self.writer.watched)

    def reset(self) -> None:
        """A new copy of the world."""
        shutil.rmtree(self.world, ignore_errors=True)
        shutil.copytree(self._original, self.world, symlinks=True)
        self.writer.prepare(self.world)

    def start(self, kind: str = "nothing", limit: int = 0, log: str = "") -> int:
        """The process of the command that was begun."""
        writer = self.writer
        return self._disturber.start(writer.arguments, self.world, kind, limit, writer.watched, log)

    def wait(self, process: int) -> Attempt:
        """What came of it."""
        return self._disturber.wait(process, self.world)

    def run(self, kind: str = "nothing", limit: int = 0, log: str = "") -> Attempt:
        """What came of the command, disturbed in this way."""
        return self.wait(self.start(kind, limit, log))

    def operations(self) -> int:
        """Number of file operations of an undisturbed command."""
        self.reset()
        return self.run("log").count

    def judge(self) -> str:
        """``equal``, ``clear``, ``silent`` or ``lost``, after the same command was given again."""
        again = self.run()
        now = left(self.world, "")
        watched = self.writer.watched
        theirs = {n: d for n, d in self.before.items() if n.split("/")[0] != watched}
        if any(now.get(name) != digest for name, digest in theirs.items()):
            return "lost"
        if again.code == 0:
            equal = left(self.world, watched) == self.wanted
            return "equal" if equal else "silent"
        return "clear" if again.is_clear else "silent"
