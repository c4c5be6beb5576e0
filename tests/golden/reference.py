"""The golden references, read once per session."""

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np

GOLDEN = Path(__file__).resolve().parent
TINY_SD = GOLDEN / "tiny-sd"
OVAM_FILE = GOLDEN / "ovam_reference.npz"
DAAM_FILE = GOLDEN / "daam_reference.npz"


@functools.cache
def reference(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a reference file."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@functools.cache
def load_model(name: str):
    """A loaded pipeline, in float32 on one CPU thread: the tests run beside other processes."""
    import torch

    from ovamgen.config import ModelConfig
    from ovamgen.diffusion.pipeline import load_pipeline

    torch.set_num_threads(1)
    return load_pipeline(ModelConfig(id=name, device="cpu"))


def tiny_sd():
    """The golden pipeline."""
    return load_model(str(TINY_SD))


@functools.cache
def recorded(branch: str) -> SimpleNamespace:
    """The drawing of the OVAM reference, with every kind of sink listening to one half."""
    import torch

    from ovamgen.attribution.ovam import PairMaps, TextMaps
    from ovamgen.attribution.stored import StoredQueries
    from ovamgen.config import SynthesisConfig
    from ovamgen.diffusion.recorder import cross_attention_layers
    from ovamgen.diffusion.synthesis import Synthesiser
    from ovamgen.diffusion.text import encode_text

    golden = reference(OVAM_FILE)
    loaded = tiny_sd()
    layers = cross_attention_layers(loaded.pipe.unet)
    prompt = str(golden["prompt"])
    rows = [encode_text(loaded.pipe, text).rows for text in (prompt, "cat")]
    pairs = torch.from_numpy(golden["token_pairs"])
    texts, classes, stored = (
        TextMaps(layers, [*rows, *pairs]),
        PairMaps(layers, pairs),
        StoredQueries(),
    )
    settings = SynthesisConfig(
        steps=int(golden["steps"]), guidance=float(golden["guidance_scale"]), height=128, width=128
    )
    drawn = Synthesiser(loaded, settings).draw(
        [prompt],
        [0],
        listeners=[(sink, branch) for sink in (texts, classes, stored)],
        latents=torch.from_numpy(golden["latents"]),
    )
    return SimpleNamespace(
        layers=layers,
        rows=rows,
        pairs=pairs,
        texts=texts,
        classes=classes,
        stored=stored,
        drawn=drawn,
    )
