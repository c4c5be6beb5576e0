"""Names of the files and folders of an output, of every kind; nothing is read or written here.

``.scratch`` and ``.lock`` are the store's own (`ovamgen.storage.local`). What ends in "/" is the
beginning of its files' names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Layout = Literal["run", "reannotation", "selection", "view", "export"]
"""Kinds of output: what generate, reannotate, ``select --copy``, select and ``export hf`` write."""

PLAN_NAME = "plan.parquet"
"""Every sample that is to be made, and the captions that were left out."""
RUN_NAME = "run.yaml"
"""Settings, inputs, model and versions that the shards were made with."""
GENERATIONS = "generations/"
"""Plan and settings of each generation that extended a corpus, by its number from 1 on."""
METADATA = "metadata/"
"""One table a shard (`metadata_name`)."""
RECORDS = "manifests/"
"""One record a finished shard (`record_name`)."""

MANIFEST_NAME = "manifest.json"
"""All records and the content of ``run.yaml``."""
WIDS_NAME = "index.json"
"""The index of wids."""
CARD_NAME = "README.md"
"""The dataset card."""
INDEXES = (MANIFEST_NAME, WIDS_NAME, CARD_NAME)
"""What describes a whole corpus, written once every shard is there."""
CONTACT_SHEET_NAME = "contact_sheet.png"
"""A page of samples with their heatmaps and masks."""
REPORT_NAME = "report.html"
"""The page about a corpus, where it is not asked for elsewhere."""

LOGS = "logs/"
"""What runs write down about themselves: no part of the corpus, and not verified."""
PROGRESS_NAME = f"{LOGS}progress.json"
"""What the latest run is doing."""
TIMES_PREFIX = f"{LOGS}time-"
"""How long the stages of each process took (`times_name`)."""

INCOMPLETE_NAME = "INCOMPLETE.json"
"""What is being made, while it is; a folder that holds it is not to be used."""
SELECTION_NAME = "selection.json"
"""Settings, funnel and source of a selection; written last, and so the mark of a finished one."""
SELECTION_TABLE_NAME = "selection.parquet"
"""One row for each sample of a view's source: kept or not, and why not."""
KEYS_NAME = "keys.txt"
"""The keys that a view keeps, one a line, ascending."""
CLIP_SCORES = "clip/"
"""CLIP scores of a selection, one table a shard (`clip_scores_name`)."""
CONSISTENCY_SCORES = "consistency/"
"""Consistency of the masks of a selection, one table a shard (`consistency_scores_name`)."""

EXPORT_NAME = "export.json"
"""What an export was asked for; written last."""
CLASSES_NAME = "classes.csv"
"""The labels of an export's masks."""
CLASS_FILE_NAME = "classes.yaml"
"""The classes of a folder in VOC's layout, beside its images; of VOC's own where it has none."""
CROISSANT_NAME = "croissant.json"
"""Croissant metadata of an export for the Hugging Face hub."""
DEVKIT = "VOCdevkit/VOC2012"
"""Images, masks and lists of an export in VOC's layout."""
MMSEG_NAME = "mmseg_config.py"
"""A configuration of mmsegmentation that trains on an export in VOC's layout."""
EXPORT_PARTS = ".parts"
"""What an export has of each shard, until it is whole."""

FILES: dict[Layout, tuple[str, ...]] = {
    "run": (PLAN_NAME, RUN_NAME, *INDEXES, CONTACT_SHEET_NAME, REPORT_NAME),
    "reannotation": (PLAN_NAME, RUN_NAME, *INDEXES, REPORT_NAME),
    "selection": (SELECTION_NAME, INCOMPLETE_NAME, *INDEXES, REPORT_NAME),
    "view": (SELECTION_NAME, INCOMPLETE_NAME, SELECTION_TABLE_NAME, KEYS_NAME),
    "export": (EXPORT_NAME, INCOMPLETE_NAME, CLASSES_NAME, CROISSANT_NAME, *INDEXES, REPORT_NAME),
}
"""Files that an output of each kind may hold, beside those of its shards."""
FOLDERS: dict[Layout, tuple[str, ...]] = {
    "run": (LOGS,),
    "reannotation": (LOGS,),
    "selection": (CLIP_SCORES, CONSISTENCY_SCORES),
    "view": (CLIP_SCORES, CONSISTENCY_SCORES),
    "export": (),
}
"""Folders that an output of each kind may hold, whatever is in them."""

_RECORD = re.compile(rf"{RECORDS}(\d{{6}})\.json")


def shard_name(split: str, index: int) -> str:
    """``train-000000.tar``."""
    return f"{split}-{index:06d}.tar"


def is_shard_name(name: str, index: int) -> bool:
    """Whether a name is that of the shard's tar, in some split."""
    split = name.removesuffix(f"-{index:06d}.tar")
    return split != name and split.isascii() and split.isalnum()


def record_name(index: int) -> str:
    """``manifests/000000.json``."""
    return f"{RECORDS}{index:06d}.json"


def metadata_name(index: int) -> str:
    """``metadata/000000.parquet``."""
    return f"{METADATA}{index:06d}.parquet"


def clip_scores_name(index: int) -> str:
    """``clip/000000.parquet``."""
    return f"{CLIP_SCORES}{index:06d}.parquet"


def consistency_scores_name(index: int) -> str:
    """``consistency/000000.parquet``."""
    return f"{CONSISTENCY_SCORES}{index:06d}.parquet"


def times_name(number: int) -> str:
    """``logs/time-000001.json``."""
    return f"{TIMES_PREFIX}{number:06d}.json"


def plan_name(generation: int) -> str:
    """``plan.parquet`` of generation 0, ``generations/000001/plan.parquet`` of the next."""
    return f"{GENERATIONS}{generation:06d}/{PLAN_NAME}" if generation else PLAN_NAME


def run_name(generation: int) -> str:
    """``run.yaml`` of generation 0, ``generations/000001/run.yaml`` of the next."""
    return f"{GENERATIONS}{generation:06d}/{RUN_NAME}" if generation else RUN_NAME


def recorded_indices(names: Iterable[str]) -> list[int]:
    """Indices of the shards that have a record among the files, ascending."""
    return sorted(int(found[1]) for name in names if (found := _RECORD.fullmatch(name)))
