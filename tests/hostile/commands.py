"""Every command that reads what comes from elsewhere, and how each is told to read it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.hostile.world import (
    CORPUS,
    FILE,
    GROWN,
    KEY,
    LORA,
    MODEL,
    MODEL_BANK,
    PHOTOS,
    PHOTOS_TABLE,
    PHOTOS_TAR,
    SAME,
    TRAIN,
    TRAINING,
    VIEW,
)

Arguments = tuple[str, ...] | Callable[[], object]
"""What follows ``ovamgen``, in the folder of the specimen; or Python that is called there."""

_LOCAL = ("--set", "runtime.runner=local")
_SMALL = ("--steps", "1", "--crop", "32", "--batch-size", "2", "--device", "cpu")


def read_dataset(url: str) -> None:
    """Every sample of a corpus, as training sees it."""
    from ovamgen.corpus.dataset import segmentation_dataset

    for _ in segmentation_dataset(url):
        pass


def label(pictures: str, table: str = "") -> None:
    """The pictures as ``label`` plans, reads and noises them, with the real engine."""
    from ovamgen.config import build_config
    from ovamgen.engine import labelling
    from ovamgen.engine.engine import Engine
    from ovamgen.generation import generate

    # whatever is found is kept, and one timestep does to look
    labelling.FINDING_TIMESTEPS = (401,)  # type: ignore[misc]
    config = {
        "classes": ["cat", "dog"],
        "plan": {"captions": table, "batch_size": 4},
        "model": {"id": "mini"},
        "attribution": {"probe": [101]},
        "label": {"pictures": pictures, "min_score": -100.0},
        "runtime": {"runner": "local"},
        "out": "new",
    }
    generate(build_config(config), Engine.load).check_complete()


def _of_shards(folder: str) -> dict[str, Arguments]:
    return {
        "select": ("select", folder, "--out", "new", "--area-quantiles", "none"),
        "select --copy": ("select", folder, "--out", "new", "--area-quantiles", "none", "--copy"),
        # one step of the drawing, as few as there can be
        "select --min-consistency": (
            *("select", folder, "--out", "new", "--area-quantiles", "none"),
            *("--min-consistency", "0", "--strength", "0.1", "--device", "cpu"),
        ),
        "reannotate": ("reannotate", folder, "--out", "new", "--tau", "0.5", "--workers", "1"),
        "export voc": ("export", "voc", folder, "--out", "new"),
        "export hf": ("export", "hf", folder, "--out", "new", "--no-link"),
        **{
            f"export {name}": ("export", name, folder, "--out", "new")
            for name in ("coco", "ultralytics", "cvat", "labelstudio", "parquet")
        },
        "train": ("train", "--shards", folder, "--out", "new", *_SMALL),
        "dataset": partial(read_dataset, folder),
        "verify": ("verify", folder, "--jobs", "1"),
    }


def _of_models(model: str, *more: str) -> dict[str, Arguments]:
    return {
        "doctor": ("doctor", "--model", model, *more, "--device", "cpu", "--out", "new"),
        "attribute": (
            *("attribute", "--model", model, *more, "--device", "cpu", "--prompt", "a cat"),
            *("--out", "new", "--set", "synthesis.steps=1"),
        ),
    }


COMMANDS: dict[str, dict[str, Arguments]] = {
    CORPUS: {
        "status": ("status", CORPUS),
        "report": ("report", CORPUS, "--out", "new.html"),
        "report into it": ("report", CORPUS),
        "repair": ("repair", CORPUS, "--gc", "--yes", "--jobs", "1", *_LOCAL),
        "replay": ("replay", CORPUS, KEY, "--out", "new", *_LOCAL),
        "generate": ("generate", "--config", SAME, "--out", CORPUS),
        "generate --extend": ("generate", "--config", GROWN, "--out", CORPUS, "--extend"),
        **_of_shards(CORPUS),
    },
    VIEW: {"status": ("status", VIEW), **_of_shards(VIEW)},
    MODEL: {
        **_of_models(MODEL),
        "tokens import": (
            *("tokens", "import", MODEL_BANK, "--model", MODEL, "--out", "new.safetensors"),
        ),
    },
    FILE: _of_models(FILE),
    LORA: _of_models(MODEL, "--set", f"model.loras={LORA}"),
    "bank.safetensors": {
        "tokens list": ("tokens", "list", "bank.safetensors"),
        "tokens export": ("tokens", "export", "bank.safetensors", "--out", "new.npz"),
        "tokens merge": (
            *("tokens", "merge", "bank.safetensors", "bank.safetensors"),
            *("--out", "new.safetensors", "--prefer", "first"),
        ),
        "doctor": ("doctor", "--model", "mini", "--tokens", "bank.safetensors", "--device", "cpu"),
    },
    "tokens.npy": {
        "tokens import": (
            *("tokens", "import", "tokens.npy", "--model", "mini", "--out", "new.safetensors"),
        ),
    },
    "bank.npz": {
        "tokens import": ("tokens", "import", "bank.npz", "--out", "new.safetensors"),
    },
    "samples": {
        "annotate import": (
            "annotate",
            "import",
            "--samples",
            "samples",
            "--overwrite",
            "cat-1.json",
        ),
        "evaluate masks": (
            *("evaluate", "masks", "--dataset", "samples", "--model", "mini", "--out", "new"),
            *("--draws", "10", "--device", "cpu"),
        ),
    },
    PHOTOS: {"label": partial(label, PHOTOS)},
    PHOTOS_TAR: {"label": partial(label, PHOTOS_TAR)},
    PHOTOS_TABLE: {"label": partial(label, PHOTOS, PHOTOS_TABLE)},
    "voc": {
        "train": ("train", "--real", "voc", "--set", "real_split=val", "--out", "new", *_SMALL),
        "evaluate segmentor": (
            *("evaluate", "segmentor", "--checkpoint", TRAINING, "--voc", "voc"),
            *("--out", "new", "--device", "cpu"),
        ),
    },
    TRAINING: {
        "evaluate segmentor": (
            *("evaluate", "segmentor", "--checkpoint", TRAINING, "--voc", "voc"),
            *("--out", "new", "--device", "cpu"),
        ),
        "train --init": (
            *("train", "--real", "voc", "--set", "real_split=val", "--out", "new"),
            *("--init", TRAINING, *_SMALL),
        ),
        "train": TRAIN,
    },
}
"""By what is attacked, then by the name of the command."""
