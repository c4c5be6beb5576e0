"""The model card: what the model is, what made it, and its figures, read from the logs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.mini.catalogue import CLASSES, ICON_SETS
from recipes.mini.journal import PROBE_LOG, TRAIN_LOG
from recipes.mini.probes import TIMESTEP_BINS


def write_card(
    run: Path, decoder: Path, channels: int, quality: Mapping[str, Any] | None = None
) -> str:
    """The card's Markdown, with the figures of the last rows of the logs of the two runs.

    Args:
        run: folder of the networks' training.
        decoder: folder of the decoder's.
        channels: of the latents.
        quality: what `recipes.mini.quality` found of pictures that these weights drew.
    """
    trained, probed = _last(run / TRAIN_LOG), _last(run / PROBE_LOG)
    decoded = _last(decoder / PROBE_LOG)
    gaps = " | ".join(
        probed.get(f"gap_percent_{low}_{high}", "not measured") for low, high in TIMESTEP_BINS
    )
    bins = " | ".join(f"{low}-{high}" for low, high in TIMESTEP_BINS)
    names = ", ".join(entry.voc.phrase for entry in CLASSES)
    licences = ", ".join(sorted({icons.license for icons in ICON_SETS}))
    return f"""# ovamgen mini

A miniature of Stable Diffusion 1.5's architecture, trained from scratch on pictures composed of
emoji: 128 x 128 pixels, latents of {channels} channels on a 16 x 16 grid, `v_prediction`. It exists
to show and test ovamgen's whole chain on a laptop, offline; it draws nothing else and is of no
other use.

Prompts: `a photograph of a CLASS`, optionally with a second class (`and`, `next to`, `with`) and a
place (on the grass, in the sky, in the snow, on the street, at night, in the desert, on the sea, on
a plain background). Classes: {names}. Any other word is read as an unknown one. At most 30 words.

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained(FOLDER, safety_checker=None)
image = pipeline("a photograph of a cat on the grass", guidance_scale=7.5).images[0]
```

## How it was made

`python -m recipes.mini` in ovamgen's repository. The latents are a fixed linear PCA of 8 x 8
patches; the VAE's encoder computes them by construction (about 0.1 % off), its decoder was trained.

| | |
|---|---|
| steps | {trained.get("step", "0")} |
| samples | {trained.get("samples", "0")} |
| loss (v, all timesteps) | {trained.get("loss", "not measured")} |
| decoder steps | {decoded.get("step", "0")} |
| held-out PSNR of the decoder, dB | {decoded.get("psnr_db", "not measured")} |

How much higher the error of the noise prediction is with the caption of another class, in percent,
by timestep:

| {bins} |
|{"---|" * len(TIMESTEP_BINS)}
| {gaps} |

{_quality(quality)}

## Licence

The pictures it was trained on were made of icons under {licences}: see `CREDITS.md`.
"""


def _quality(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "How many of its pictures an annotator names right was not measured."
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found["by_class"].items())
    return (
        f"A network that was trained on composites alone names the class that was asked for in "
        f"{found['named_right']:.1%} of {found['pictures']} pictures "
        f"(`A photograph of a CLASS`): {shares}."
    )


def _last(log: Path) -> dict[str, str]:
    if not log.exists():
        return {}
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows[-1] if rows else {}
