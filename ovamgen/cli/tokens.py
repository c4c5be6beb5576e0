"""``tokens``: learn, score, merge, import, export and list banks of optimised tokens."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ovamgen.cli.options import AsJson, Device, Model, resolve
from ovamgen.console.log_format import say, show

SamplesModel = Annotated[
    str | None,
    typer.Option(help="Must be the model that drew the samples; theirs where not given."),
]
Samples = Annotated[str, typer.Option(help="Folder of samples (see ovamgen samples).")]
Annotations = Annotated[
    str | None, typer.Option(help="Folder of KEY.png; SAMPLES/annotations where not given.")
]
Branch = Annotated[
    str | None,
    typer.Option(help="Half of the guided batch: auto, unconditional or conditional."),
]
Tau = Annotated[
    float | None, typer.Option(help="Threshold of masks that the bank is to name, 0 to 1.")
]
Bank = Annotated[str, typer.Argument(metavar="BANK", help="A .safetensors file or URL.")]


def optimise(
    samples: Samples,
    out: Annotated[str, typer.Option(help="The .safetensors file to write.")],
    annotations: Annotations = None,
    model: SamplesModel = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="a,b,c",
            help="Only these of the samples' classes; a class set must be the samples' own.",
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="paper or released-code.")] = "paper",
    steps: Annotated[int | None, typer.Option(help="Instead of the preset's 500 or 800.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", help="Instead of the preset's 100.")
    ] = None,
    images_per_class: Annotated[
        int, typer.Option(help="Annotated pictures a class; above 1 their losses are averaged.")
    ] = 1,
    validate: Annotated[
        str | None, typer.Option(help="Folder of other annotated samples, to score on.")
    ] = None,
    report: Annotated[
        str | None, typer.Option(help="Folder for tables, loss curves and pictures.")
    ] = None,
    tau: Tau = None,
    max_memory: Annotated[
        float | None, typer.Option(help="GB for the queries of a class; what is free by default.")
    ] = None,
    runner: Annotated[
        str, typer.Option(help="local: one class after the other. ray: several at once.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(help="With ray: models held at once.")] = None,
    branch: Branch = None,
    device: Device = None,
) -> None:
    """Learn a pair of rows for each class from annotated pictures, or go on where it stopped.

    The pictures are drawn once more with their own settings, and the pair is trained until its
    map is the annotation. Finished classes are kept in OUT.partial until all are there. The bank
    names the threshold of the best mean IoU, on the pictures of --validate where there are any.

    Example: `ovamgen tokens optimize --samples voc-sim --out voc.safetensors --report report`
    """
    from ovamgen.errors import ConfigError
    from ovamgen.tokens.optimise import OptimiseRequest, optimise_tokens

    if runner not in ("local", "ray"):
        raise ConfigError(f"--runner must be local or ray, got {runner}")
    if workers is not None and runner == "local":
        raise ConfigError("--workers is for classes in parallel: give --runner ray with it")
    done = optimise_tokens(
        OptimiseRequest(
            samples=samples,
            out=out,
            annotations=annotations,
            classes=tuple(name.strip() for name in (classes or "").split(",") if name.strip()),
            preset=preset,
            steps=steps,
            learning_rate=learning_rate,
            images_per_class=images_per_class,
            validate=validate,
            report=report,
            tau=tau,
            max_memory_gb=max_memory,
            model=model,
            device=device,
            branch=branch,
            workers=workers,
            ray=runner == "ray",
        )
    )
    show("\n".join(done.lines()))
    done.check_complete()


def score(
    bank: Bank,
    samples: Annotated[
        str | None, typer.Option(help="Folder of annotated samples that the bank never saw.")
    ] = None,
    annotations: Annotations = None,
    model: SamplesModel = None,
    words: Annotated[bool, typer.Option("--words", help="Score the class words too.")] = False,
    branch: Branch = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well a bank's maps find annotated objects: IoU of each class over tau.

    Example: `ovamgen tokens score voc.safetensors --samples held-out --words`
    """
    from ovamgen.errors import ConfigError

    if samples is None:
        raise ConfigError(
            "a bank is scored on annotated samples: give --samples FOLDER ('ovamgen samples' draws "
            "them, 'ovamgen annotate' paints them), or score it on pictures with exact masks by "
            "'ovamgen evaluate masks --dataset DIR --tokens BANK'"
        )
    from ovamgen.attribution.token_bank import TokenBank
    from ovamgen.tokens.score import score_bank

    scores = score_bank(
        TokenBank.load(bank),
        samples=samples,
        annotations=annotations,
        model=model,
        words=words,
        branch=branch,
        device=device,
        say=say,
    )
    show(json.dumps(scores.to_json(), indent=2) if as_json else "\n".join(scores.lines()))


def merge(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="A bank.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="A bank of the same model.")],
    out: Annotated[str, typer.Option(help="The .safetensors file to write.")],
    prefer: Annotated[
        str | None, typer.Option(help="first or second: whose rows a class gets that both have.")
    ] = None,
) -> None:
    """Make one bank of two.

    Example: `ovamgen tokens merge animals.safetensors vehicles.safetensors --out all.safetensors`
    """
    from ovamgen.attribution.token_bank import TokenBank
    from ovamgen.errors import ConfigError
    from ovamgen.tokens.banks import describe, merge_banks

    if not out.endswith(".safetensors"):
        raise ConfigError(f"--out must end in .safetensors, got {out}")
    merged = merge_banks(TokenBank.load(first), TokenBank.load(second), prefer)
    merged.save(out)
    show("\n".join(describe(merged, out)))


def export(
    bank: Bank,
    out: Annotated[str, typer.Option(help=".npz (an array a class) or .npy (one array).")],
) -> None:
    """Write a bank as plain numpy arrays, without pickle; tokens import reads them again.

    Example: `ovamgen tokens export voc.safetensors --out voc.npz`
    """
    from ovamgen.attribution.token_bank import TokenBank
    from ovamgen.tokens.banks import export_bank

    show(str(export_bank(TokenBank.load(bank), out)))


def import_tokens(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The authors' .npy, or an export.")],
    out: Annotated[str, typer.Option(help="The .safetensors file to write.")],
    model: Model = None,
    tau: Tau = None,
    device: Device = "cpu",
) -> None:
    """Read the authors' tokens_VOC.npy safely, or exported arrays, and write a bank.

    The bank names the published threshold of the authors' tokens, 0.8, and that of an export.

    Example: `ovamgen tokens import tokens_VOC.npy --model sd15-folder --out voc.safetensors`
    """
    resolved = resolve(None, {"model": {"id": model, "device": device}})
    from ovamgen.tokens.banks import describe
    from ovamgen.tokens.banks import import_tokens as run

    bank = run(file, resolved.model, out, named=model is not None, tau=tau)
    show("\n".join(describe(bank, out)))


def list_bank(
    bank: Annotated[
        str | None,
        typer.Argument(
            metavar="BANK",
            help="A .safetensors file or URL, or a name of those that ship.",
            show_default="what ships",
        ),
    ] = None,
) -> None:
    """Show a bank: classes, width, digest, and where it is from; without one, what ships.

    Example: `ovamgen tokens list`

    Example: `ovamgen tokens list voc.safetensors`
    """
    from ovamgen.attribution.token_bank import TokenBank
    from ovamgen.config import SHIPPED
    from ovamgen.tokens.banks import describe

    if bank is not None:
        show("\n".join(describe(TokenBank.load(bank), bank)))
        return
    for name, shipped in SHIPPED.items():
        read = TokenBank.load(name)
        show(
            f"--tokens {name:<9} {shipped.told}: {len(read.class_names)} classes, rows of width "
            f"{read.width}, tau {shipped.tau:g}"
        )
