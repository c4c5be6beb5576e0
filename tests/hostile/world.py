"""What is attacked: one healthy specimen of everything that may come from elsewhere.

Beside it lies `OUTSIDE`, a folder of the user's that no command may touch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.generation import generate
from ovamgen.shards.shard_record import metadata_name, read_record, record_name, record_to_json
from ovamgen.storage.store import LocalStore
from ovamgen.tokens.banks import export_bank
from tests.command_line import ovamgen
from tests.fakes import DiscEngine
from tests.fuzz.readers import NAMES, write_world
from tests.runs import run_config
from tests.voc import VOC_CLASSES

CORPUS, VIEW, MODEL, OUTSIDE = "corpus", "view", "model", "outside"
TAR, TABLE, RECORD = "train-000000.tar", "metadata/000000.parquet", "manifests/000000.json"
KEY = "00000000001"
"""Of a sample that the corpus holds."""
PHOTOS, PHOTOS_TAR, PHOTOS_TABLE = "photos", "photos.tar", "photos.csv"
"""Pictures to be labelled, the same in a tar, and what they show."""
MODEL_BANK = "model-bank.npz"
"""Token pairs for the model folder."""
TRAINING = "training"
TRAIN = (
    *("train", "--real", "voc", "--set", "real_split=val", "--out", TRAINING, "--steps", "1"),
    *("--crop", "32", "--batch-size", "2", "--device", "cpu"),
)
"""The command that made the training, and that finds it done when it is given again."""
FILE, LORA = "model.safetensors", "lora.safetensors"
LORA_LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
"""The layer of the model folder that the LoRA is for."""
SAME, GROWN = "same.yaml", "grown.yaml"
"""The configuration of the run that made the corpus, and one with two captions more."""
CODE_RAN = "CODE_RAN"
"""A file that code in an attack makes in the current folder."""

_USERS_FILES = {
    "id_ed25519": "the user's key",
    "Documents/letter.txt": "dear",
    "Photos/holiday.jpg": "a picture",
    "poetry.lock": "pinned",
}


def write_specimen(root: Path, tiny_model: Path) -> None:
    """A finished corpus with heatmaps, a view of it, and one of everything else."""
    write_world(root)
    for name in (CORPUS, VIEW, TRAINING):
        shutil.rmtree(root / name)
    config, grown = (
        run_config(root, count=count, shards={"heatmaps": True}, runtime={"runner": "local"})
        for count in (6, 8)
    )
    generate(config, DiscEngine)
    (root / SAME).write_text(config.model_dump_json())
    (root / GROWN).write_text(grown.model_dump_json())
    (root / "out").rename(root / CORPUS)
    select(str(root / CORPUS), str(root / VIEW), SelectionSettings(area_quantiles=None))
    shutil.copytree(tiny_model, root / MODEL)
    _write_photos(root)
    _write_weights(root)
    with contextlib.chdir(root):
        assert ovamgen(*TRAIN).returncode == 0
    (root / "labelme.json").rename(root / "cat-1.json")
    # as wide as the rows of mini
    rows = {voc.phrase.replace(" ", "-"): np.ones((2, 128), np.float32) for voc in VOC_CLASSES}
    np.save(root / "tokens.npy", np.array(rows, dtype=object), allow_pickle=True)
    _bank(128).save(root / "bank.safetensors")
    # as wide as those of the model folder
    export_bank(_bank(24), root / MODEL_BANK)
    for name, text in _USERS_FILES.items():
        path = root / OUTSIDE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _bank(width: int) -> TokenBank:
    pairs = np.ones((len(NAMES), 2, width), np.float32)
    return TokenBank(class_names=NAMES, pairs=pairs, provenance={"kind": "optimised"})


def _write_photos(root: Path) -> None:
    (root / PHOTOS).mkdir()
    for number, name in enumerate(("one.png", "two.png")):
        Image.new("RGB", (64, 64), (90 * number, 99, 99)).save(root / PHOTOS / name)
    with tarfile.open(root / PHOTOS_TAR, "w") as tar:
        tar.add(root / PHOTOS, "photos")
    (root / PHOTOS_TABLE).write_text("picture,classes\none.png,cat\n")


def _write_weights(root: Path) -> None:
    """A LoRA of the model folder, and a file of its UNet alone, which is no whole model."""
    unet = load_file(root / MODEL / "unet/diffusion_pytorch_model.safetensors")
    save_file(unet, root / FILE)
    rows, columns = unet[f"{LORA_LAYER.removeprefix('unet.')}.weight"].shape
    pair = {"A": np.ones((2, columns), np.float32), "B": np.ones((rows, 2), np.float32) / 100}
    save_file({f"{LORA_LAYER}.lora_{k}.weight": v for k, v in pair.items()}, root / LORA)


def state_of(root: Path) -> dict[str, tuple[int, str]]:
    """Mode and digest of everything below a folder; links are read, and never followed."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            content = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(root))] = (mode, content)
    return found


def vouch(corpus: Path) -> None:
    """Makes the first shard's record fit its files: whoever forges a corpus forges digests too."""
    store = LocalStore(corpus)
    record = read_record(store, 0)
    assert record is not None
    tar, table = store.read(record.name), store.read(metadata_name(0))
    changed = dataclasses.replace(
        record,
        size_bytes=len(tar),
        sha256=hashlib.sha256(tar).hexdigest(),
        md5=hashlib.md5(tar).hexdigest(),
        metadata_size_bytes=len(table),
        metadata_sha256=hashlib.sha256(table).hexdigest(),
    )
    store.put(record_name(0), record_to_json(changed))
