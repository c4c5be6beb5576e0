"""The command line of the recipe: parse, one call, exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from ovamgen.errors import ConfigError, OvamgenError
from recipes.mini.dataset import DataSettings, Variety
from recipes.mini.workspace import Workspace

app = typer.Typer(
    help=__doc__, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)

Work = Annotated[Path, typer.Option(help="Folder for everything the recipe makes.")]
VarietyOption = Annotated[str, typer.Option(help="Pictures: 'core' (3 sprites a class) or 'all'.")]
Device = Annotated[str, typer.Option(help="'cpu' or 'cuda'.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads; part of what a resume repeats.")]
Minutes = Annotated[float | None, typer.Option(help="Stop in order after that long.")]
Processes = Annotated[int, typer.Option(min=0, help="Processes that compose pictures.")]
Change = Annotated[bool, typer.Option("--change", help="Go on with other settings or data.")]
Out = Annotated[Path, typer.Option(help="New folder.")]


@app.command()
def sprites(work: Work) -> None:
    """Fetch the icon sets (npm) and rasterise them: sprites.npz and a sheet to look at."""
    from recipes.mini.steps import make_sprites_in

    make_sprites_in(Workspace(work))


@app.command()
def data(
    work: Work,
    variety: VarietyOption = "core",
    images: Annotated[int, typer.Option(min=1)] = 60_000,
    processes: Processes = 2,
    refit_channels: Annotated[
        int | None,
        typer.Option(help="Fit latents of 8, 16, 24 or 32 channels, for weights that begin anew."),
    ] = None,
    latents_of: Annotated[
        Path | None, typer.Option(help="Folder that 'keep' wrote, whose weights are gone on from.")
    ] = None,
) -> None:
    """Compose the training pictures and store their latents and captions."""
    from recipes.mini.steps import make_data_in

    if refit_channels is not None and latents_of is not None:
        raise ConfigError("latents are fitted anew or kept: give --refit-channels or --latents-of")

    settings = DataSettings(variety=_variety(variety), images=images)
    make_data_in(
        Workspace(work),
        settings,
        processes,
        refit_channels=refit_channels,
        latents_of=latents_of,
    )


@app.command()
def train(
    work: Work,
    run: Annotated[str, typer.Option(help="Name of the run.")] = "core",
    variety: VarietyOption = "core",
    until_step: Annotated[int, typer.Option(min=1)] = 1_000_000,
    minutes: Minutes = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    ema_decay: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    branch_from: Annotated[str | None, typer.Option(help="Run to leave at its checkpoint.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Exported model, or what 'keep' wrote, whose weights a run begins with."),
    ] = None,
    timestep_slope: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="Train more on noisy timesteps: 0.6 on the noisiest "
            "four times as often as on the cleanest. [default: 0]",
        ),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="Of a new run: muon, or adamw. [default: muon]")
    ] = None,
    widths: Annotated[
        str | None, typer.Option(help="Of a new UNet's three levels: '96,160,192'.")
    ] = None,
    decay_steps: Annotated[int, typer.Option(min=1, help="Of a branch.")] = 4000,
    probe_every: Annotated[int, typer.Option(min=1, help="Steps.")] = 1500,
    device: Device = "cpu",
    threads: Threads = 2,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the UNet.")] = False,
    change: Change = False,
) -> None:
    """Train the text encoder and the UNet; resumes exactly where the run stopped."""
    from recipes.mini.steps import train_networks_in

    given = {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "ema_decay": ema_decay,
        "timestep_slope": timestep_slope,
        "optimizer": _optimizer(optimizer),
    }
    train_networks_in(
        Workspace(work),
        run,
        DataSettings(variety=_variety(variety)),
        overrides={name: value for name, value in given.items() if value is not None},
        branch_from=branch_from,
        start_from_model=start_from,
        widths=None if widths is None else _widths(widths),
        decay_steps=decay_steps,
        until_step=until_step,
        probe_every=probe_every,
        minutes=minutes,
        device=device,
        threads=threads,
        compiled=compiled,
        change=change,
    )


@app.command()
def probe(
    work: Work,
    run: Annotated[str, typer.Option(help="Name of the run.")] = "core",
    variety: VarietyOption = "core",
    device: Device = "cpu",
    threads: Threads = 2,
) -> None:
    """Measure a run at its checkpoint: the caption gap, a grid of samples."""
    from recipes.mini.steps import probe_run

    probe_run(
        Workspace(work),
        run,
        DataSettings(variety=_variety(variety)),
        device=device,
        threads=threads,
    )


@app.command()
def keep(work: Work, out: Out, run: Annotated[str, typer.Option(help="Name.")] = "core") -> None:
    """Write averaged weights of a run and the decoder, to go on from elsewhere: '--start-from'."""
    from recipes.mini.steps import keep_run

    keep_run(Workspace(work), run, out)


@app.command()
def decoder(
    work: Work,
    until_step: Annotated[int, typer.Option(min=1)] = 1_000_000,
    minutes: Minutes = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Exported model whose decoder a new training begins with.")
    ] = None,
    decay_steps: Annotated[int | None, typer.Option(min=1, help="Decay from here.")] = None,
    probe_every: Annotated[int, typer.Option(min=1, help="Steps.")] = 500,
    processes: Processes = 0,
    device: Device = "cpu",
    threads: Threads = 2,
) -> None:
    """Train the decoder of the latents; resumes exactly where it stopped."""
    from recipes.mini.steps import train_decoder

    given = {"batch_size": batch_size, "learning_rate": learning_rate}
    train_decoder(
        Workspace(work),
        overrides={name: value for name, value in given.items() if value is not None},
        start_from_model=start_from,
        decay_steps=decay_steps,
        until_step=until_step,
        probe_every=probe_every,
        minutes=minutes,
        processes=processes,
        device=device,
        threads=threads,
    )


@app.command()
def export(
    work: Work,
    out: Out,
    run: Annotated[str, typer.Option(help="Name of the run.")] = "core",
    quality: Annotated[
        Path | None, typer.Option(help="What 'quality' printed, for the card.")
    ] = None,
) -> None:
    """Write the model folder, in diffusers format and float16."""
    from recipes.mini.steps import export_model

    export_model(Workspace(work), run, out, quality)


@app.command()
def voc(
    work: Work,
    out: Out,
    train: Annotated[int, typer.Option(min=0, help="Pictures.")] = 2000,
    val: Annotated[int, typer.Option(min=0, help="Pictures.")] = 100,
    test: Annotated[int, typer.Option(min=0, help="Pictures.")] = 500,
) -> None:
    """Write composites with exact masks as a data set in VOC's layout."""
    from recipes.mini.sprites import load_sprites
    from recipes.mini.voc import write_voc

    sprites = load_sprites(Workspace(work).sprites)
    write_voc(out, sprites, {"train": train, "val": val, "test": test})


@app.command()
def quality(
    samples: Annotated[Path, typer.Option(help="Folder that 'ovamgen samples' drew.")],
    annotator: Annotated[Path, typer.Option(help="Folder that 'ovamgen train' wrote to.")],
    annotations: Annotated[
        Path | None, typer.Option(help="Folder for the masks of pictures named right.")
    ] = None,
    grid: Annotated[Path | None, typer.Option(help="PNG of four samples a class.")] = None,
) -> None:
    """Show generated pictures to a network trained on real composites; print what it names."""
    from ovamgen.pictures.sample_folder import SampleFolder
    from ovamgen.segmentor.network import load_segmentor
    from recipes.mini.quality import draw_grid, judge

    folder = SampleFolder.open(samples)
    found = judge(folder, load_segmentor(annotator), annotations)
    if grid is not None:
        draw_grid(folder, grid)
    print(json.dumps(found.to_json(), indent=2))


@app.command()
def blind(
    samples: Annotated[Path, typer.Option(help="Folder that 'ovamgen samples' drew.")],
    sheet: Annotated[Path, typer.Option(help="PNG of numbered pictures to write.")],
    key: Annotated[Path, typer.Option(help="CSV of what they show; not to be looked at.")],
    count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Decides which, and their order.")] = 0,
) -> None:
    """Draw a sheet of pictures without names, for somebody to name."""
    from ovamgen.pictures.sample_folder import SampleFolder
    from recipes.mini.blind import draw_blind_sheet

    draw_blind_sheet(SampleFolder.open(samples), sheet, key, count=count, seed=seed)


@app.command("blind-score")
def blind_score(
    key: Annotated[Path, typer.Option(help="CSV that 'blind' wrote.")],
    guesses: Annotated[Path, typer.Option(help="Text: a line a picture, '17 cat' or '17 ?'.")],
) -> None:
    """Compare the names that somebody gave with what was asked for; print how many are right."""
    from recipes.mini.blind import score_guesses

    print(json.dumps(score_guesses(key, guesses), indent=2))


@app.command()
def downstream(
    config: Annotated[Path, typer.Option(help="YAML: rows, seeds, trainings.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; an interrupted one goes on.")],
    processes: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 2,
) -> None:
    """Train networks on parts of a corpus, on real pictures and on mixes, and score them."""
    from ovamgen.config import read_config_file
    from recipes.mini.downstream import read_study, run_study, to_markdown

    print(to_markdown(run_study(read_study(read_config_file(str(config))), out, processes, _show)))


@app.command()
def distance(
    work: Work,
    samples: Annotated[Path, typer.Option(help="Folder that 'ovamgen samples' drew.")],
    annotator: Annotated[Path, typer.Option(help="Folder that 'ovamgen train' wrote to.")],
    variety: VarietyOption = "all",
    per_class: Annotated[int, typer.Option(min=2, help="Composites.")] = 50,
) -> None:
    """Print how far drawings are from composites of their class, in the annotator's features."""
    from ovamgen.pictures.sample_folder import SampleFolder
    from ovamgen.segmentor.network import load_segmentor
    from recipes.mini.distance import distances
    from recipes.mini.sprites import load_sprites

    pictures = DataSettings(variety=_variety(variety))
    composer = pictures.composer(load_sprites(Workspace(work).sprites), held_out=True)
    found = distances(SampleFolder.open(samples), load_segmentor(annotator), composer, per_class)
    print(json.dumps(found, indent=2))


@app.command()
def consistency(
    strength: Annotated[float, typer.Option(help="Noise of both drawings, in (0, 1].")] = 0.5,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pictures.")] = None,
) -> None:
    """Print what consistency with the mirrored picture tells of masks whose truth is known."""
    from recipes.mini.consistency import consistency_and_iou, told

    print(told(consistency_and_iou(strength, limit)))


@app.command()
def labelled(
    corpus: Annotated[str, typer.Argument(help="What 'ovamgen label' made of mini's pictures.")],
) -> None:
    """Print how good the masks and classes of labelled validation pictures are."""
    from recipes.mini.labelled import told

    print(told(corpus))


@app.command("all")
def everything(
    work: Work,
    out: Out,
    smoke: Annotated[bool, typer.Option("--smoke", help="Minutes, not days: a bad model.")] = False,
) -> None:
    """From an empty folder to a model folder and a VOC data set beside it."""
    from recipes.mini.steps import make_everything

    make_everything(Workspace(work), out, smoke=smoke)


def main() -> int:
    """The exit code of the command in ``sys.argv``; typer exits by itself on usage errors."""
    try:
        app()
    except OvamgenError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _variety(text: str) -> Variety:
    for variety in get_args(Variety):
        if text == variety:
            return variety
    raise ConfigError(f"--variety must be one of {', '.join(get_args(Variety))}, got '{text}'")


def _optimizer(text: str | None) -> str | None:
    if text not in (None, "muon", "adamw"):
        raise ConfigError(f"--optimizer must be muon or adamw, got '{text}'")
    return text


def _widths(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) % 32 == 0 for part in parts):
        raise ConfigError(f"--widths must be three multiples of 32 ('96,160,192'), got '{text}'")
    return tuple(int(part) for part in parts)
