"""``attribute``: single images and the maps of texts in them."""

from __future__ import annotations

from typing import Annotated

import typer

from ovamgen.cli.options import (
    ConfigFile,
    Device,
    Guidance,
    HeadFile,
    Height,
    Loras,
    Model,
    Sets,
    Steps,
    Width,
    resolve_here,
)
from ovamgen.console.log_format import show


def attribute(
    prompt: Annotated[str, typer.Option(help="The generation prompt.")],
    out: Annotated[str, typer.Option(help="The .npz file to write.")],
    model: Model = None,
    lora: Loras = None,
    latents: Annotated[str | None, typer.Option(help=".npz with latents (1, 4, h, w).")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Attribution text; repeatable.")] = None,
    token_pairs: Annotated[
        str | None, typer.Option(help=".npz with token_pairs (N, 2, ctx).")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Token bank (.safetensors).")] = None,
    method: Annotated[str | None, typer.Option(help="Attribution method.")] = None,
    head: HeadFile = None,
    self_attention: Annotated[
        str | None, typer.Option(help="See 'ovamgen config masks.self_attention'.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option(help="Half of the guided batch that is read.")
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    height: Height = None,
    width: Width = None,
    seed: Annotated[int, typer.Option(help="Of the initial noise.")] = 0,
    device: Device = None,
    overlay: Annotated[str | None, typer.Option(help="PNG: the image beside each map.")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Draw one image and write the raw attention maps of texts, token pairs or a bank.

    Method daam has maps of the prompt's own words only: leave --text away or repeat the prompt.
    Of a bank it takes the classes that the prompt names. Methods grounded and datasetdm write a
    probability map for each text, pair or class of a bank.

    Example: `ovamgen attribute --model mini --prompt "a cat" --text cat --out cat.npz`

    Example: `ovamgen attribute --method daam --model mini --prompt "a cat" --out cat.npz`

    Example: `ovamgen attribute --method grounded --model mini --prompt "a cat" --text cat --out
    cat.npz`

    Example: `ovamgen attribute --method attn2mask --steps 100 --model mini --prompt "a cat" --text
    cat --out cat.npz`
    """
    flags = {
        "model": {"id": model, "loras": lora or None, "device": device},
        "synthesis": {"steps": steps, "guidance": guidance, "height": height, "width": width},
        "attribution": {"method": method, "branch": branch, "head": head},
        "masks": {"self_attention": self_attention},
    }
    resolved = resolve_here(config, flags, sets)
    from ovamgen.engine.one_image import attribute as run

    done = run(
        resolved,
        prompt=prompt,
        out=out,
        seed=seed,
        texts=text or (),
        latents=latents,
        token_pairs=token_pairs,
        tokens=tokens,
        overlay=overlay,
    )
    show("\n".join(done.lines()))
