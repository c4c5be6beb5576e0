"""How a corpus is loaded: three lines of Python for each of three libraries."""

from __future__ import annotations

import json

from ovamgen.report.corpus import Corpus


def loading(corpus: Corpus) -> list[tuple[str, str]]:
    """Ways to read the samples from beside the corpus's folder, as (library, lines of Python)."""
    full = [record for record in corpus.records if record.samples]
    if not full:
        return []
    stem = full[0].name.rpartition("-")[0]
    every = _literal(f"{corpus.name}/{stem}-*.tar")
    imports, tars = "import webdataset as wds", _literal(f"{corpus.name}/{full[0].name}")
    if len(full) > 1:
        first, last = full[0].shard_index, full[-1].shard_index
        # braces name every shard between their ends: only where all of them are there
        if last - first + 1 == len(full):
            tars = _literal(f"{corpus.name}/{stem}-{{{first:06d}..{last:06d}}}.tar")
        else:
            imports, tars = "import glob, webdataset as wds", f"sorted(glob.glob({every}))"
    return [
        (
            "webdataset",
            f"{imports}\n"
            f"samples = wds.WebDataset({tars}, shardshuffle=False)\n"
            'pairs = samples.decode(wds.imagehandler("rgb8", ["jpg"]), "l8")'
            '.to_tuple("jpg", "mask.png")',
        ),
        (
            "datasets",
            "from datasets import load_dataset\n"
            f'samples = load_dataset("webdataset", data_files={every}, split="train")\n'
            'image, mask = samples[0]["jpg"], samples[0]["mask.png"]',
        ),
        (
            "ovamgen",
            "from ovamgen.corpus.dataset import segmentation_dataset\n"
            f"for image, mask in segmentation_dataset({_literal(corpus.name)}, shuffle=1000):\n"
            "    ...  # float32 (3, H, W) in [0, 1]; int64 (H, W) of class ids",
        ),
    ]


def _literal(text: str) -> str:
    """A string of Python, whatever the folder is called."""
    return json.dumps(text, ensure_ascii=False)
