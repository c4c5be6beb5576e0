"""``attribute``, ``tokens`` and ``bench``: single images, token banks, and what things cost."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ovamgen.cli.options import (
    AsJson,
    ConfigFile,
    Device,
    Guidance,
    Height,
    Model,
    Sets,
    Steps,
    Width,
    resolve,
)


def attribute(
    prompt: Annotated[str, typer.Option(help="The generation prompt.")],
    out: Annotated[str, typer.Option(help="The .npz file to write.")],
    model: Model = None,
    latents: Annotated[str | None, typer.Option(help=".npz with latents (1, 4, h, w).")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Attribution text; repeatable.")] = None,
    token_pairs: Annotated[
        str | None, typer.Option(help=".npz with token_pairs (N, 2, ctx).")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Token bank (.safetensors).")] = None,
    branch: Annotated[
        str | None, typer.Option(help="Half of the guided batch: unconditional or conditional.")
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

    Example: `ovamgen attribute --model mini --prompt "a cat" --text cat --out cat.npz`
    """
    flags = {
        "model": {"id": model, "device": device or (None if config else _device_here(model))},
        "synthesis": {"steps": steps, "guidance": guidance, "height": height, "width": width},
        "attribution": {"branch": branch},
    }
    resolved = resolve(config, flags, sets)
    from ovamgen.attribute import attribute as run

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
    print("\n".join(done.lines()))


def import_tokens(
    file: Annotated[str, typer.Argument(metavar="FILE.npy", help="The authors' pickled tokens.")],
    out: Annotated[str, typer.Option(help="The .safetensors file to write.")],
    model: Model = None,
    device: Device = "cpu",
) -> None:
    """Read the authors' tokens_VOC.npy safely and write a bank.

    Example: `ovamgen tokens import tokens_VOC.npy --model sd15-folder --out voc.safetensors`
    """
    resolved = resolve(None, {"model": {"id": model, "device": device}})
    from ovamgen.tokens import describe
    from ovamgen.tokens import import_tokens as run

    bank = run(file, resolved.model, out)
    print("\n".join(describe(bank, out)))


def list_bank(
    bank: Annotated[str, typer.Argument(metavar="BANK", help="A .safetensors file or URL.")],
) -> None:
    """Show a bank: classes, width, digest, and where it is from.

    Example: `ovamgen tokens list voc.safetensors`
    """
    from ovamgen.attribution.token_bank import TokenBank
    from ovamgen.tokens import describe

    print("\n".join(describe(TokenBank.load(bank), bank)))


def bench_attention(
    model: Model = "mini",
    device: Device = None,
    steps: Annotated[int, typer.Option(help="num_inference_steps.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Images drawn at once.")] = 8,
    rounds: Annotated[int, typer.Option(help="Times that each side is measured.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Time drawing with and without recording attention, by turns, and its memory by steps.

    Example: `ovamgen bench attention --rounds 15`
    """
    device = device or _device_here(model)
    flags = {"model": {"id": model, "device": device}, "synthesis": {"steps": steps}}
    resolved = resolve(None, flags)
    from ovamgen.bench import bench_attention as run

    measured = run(resolved, batch_size=batch_size, rounds=rounds)
    if as_json:
        print(json.dumps(measured.to_json(), indent=2))
        return
    from rich.console import Console

    Console().print(measured.table())


def _device_here(model: str | None) -> str | None:
    """What this machine has: one image runs here, unlike a run, which may be for a cluster."""
    if model == "mini":
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
