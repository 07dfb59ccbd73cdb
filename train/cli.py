"""The commands of train: pretrain, finetune, sample, export, presets."""

import os
import sys
from collections.abc import Callable
from functools import reduce
from typing import Any

import click

from synth import console
from synth.errors import UserError

_DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
_ENCODER = click.option("--encoder", help="Path of the captions' encoder, if it has moved.")


def main() -> None:
    """Runs `python -m train`, and each process of torchrun.

    A process of torchrun does not destroy its process group, because gloo's threads sometimes abort it
    then."""
    try:
        console.run(commands, "python -m train")
    except SystemExit as ended:
        if "WORLD_SIZE" not in os.environ:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 0)


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


def _training(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that pretrain and finetune share."""
    options = [
        click.option(
            "--shards",
            multiple=True,
            required=True,
            help="A finished set of shards, folder or URL; may be repeated, and all are read as one.",
        ),
        click.option(
            "--captions",
            multiple=True,
            help="The caption tables of each set; by default the only ones in data/captions/DATASET.",
        ),
        click.option("--out", required=True, help="The run's folder."),
        click.option("--images-seen", type=int, help="Images seen at the end of the run."),
        click.option("--precision", default="auto", show_default=True, help="auto, fp32 or bf16."),
        click.option("--text", help="Vector of a text: pseudo, stored, caption or mix:SHARE."),
        _ENCODER,
        _DEVICE,
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="GROUP.KEY=VALUE",
            help="Change a setting; may be repeated.",
        ),
        click.option("--dry-run", is_flag=True, help="Print the config and the cost, and write nothing."),
    ]
    return reduce(lambda made, option: option(made), reversed(options), command)


class _Told(click.Group):
    """A command group with one error message for all ranks, for errors before the ranks have joined."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except (click.ClickException, UserError) as error:
            if "WORLD_SIZE" not in os.environ:
                raise
            from train.distributed import Ranks

            Ranks.join("cpu").end(
                UserError(error.format_message() if isinstance(error, click.ClickException) else str(error))
            )


@click.group(
    cls=_Told,
    epilog=_example("python -m train pretrain tiny-32 --shards data/shards/fractals --out runs/tiny"),
)
def commands() -> None:
    """Trains models on shards and caption tables, and draws from them."""


@commands.command(
    epilog=_example(
        "torchrun --nproc-per-node 8 -m train pretrain paper-256 --shards data/shards/fractals --out runs/paper"
    )
)
@click.argument("preset")
@_training
def pretrain(dry_run: bool, **options: object) -> None:
    """Trains a preset on a set of shards and its captions, or resumes the run in --out."""
    _train(dry_run, options)


@commands.command(
    epilog=_example(
        "python -m train finetune emoji-32 --from runs/tiny --shards data/real/emoji/train --fraction 0.1 --out runs/emoji"
    )
)
@click.argument("preset")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="RUN",
    help="The run with the first weights, from its newest checkpoint.",
)
@click.option("--fraction", type=float, help="Share of the set to train on, chosen by the seed.")
@_training
def finetune(dry_run: bool, **options: object) -> None:
    """Trains a preset from another run's weights, with new optimisers."""
    _train(dry_run, options)


@commands.command(
    context_settings={"ignore_unknown_options": True},
    epilog=_example(
        'python -m train sample runs/tiny "a red fractal on a blue background" --n 16 --truncation 0.7 --out grid.png'
    ),
)
@click.argument("run")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option("--n", default=16, show_default=True, help="Pictures of each text.")
@click.option("--out", default="grid.png", show_default=True, help="The PNG to write.")
@click.option("--seed", default=0, show_default=True, help="Seed of the latents.")
@click.option("--images-seen", type=int, help="The checkpoint; by default the newest.")
@_ENCODER
@_DEVICE
def sample(run: str, texts: tuple[str, ...], n: int, out: str, device: str, **options: Any) -> None:
    """Draws pictures of texts.

    Drawing options of the run's model have the same form, such as --truncation 0.7 for stylegan2."""
    if not 1 <= n <= 1024 or not out.endswith(".png"):
        raise UserError("--n must lie in 1..1024, and --out end in .png")
    prompts, further = _drawing_options(texts)
    from pathlib import Path

    from caption import encoders
    from train import runs
    from train.sampling import draw, grid

    chosen = encoders.choose_device(device)
    pictures = draw.sample(runs.find(run), prompts, n=n, options=further, device=chosen, **options)
    grid.save(Path(out), grid.captioned(pictures, [t for t in prompts for _ in range(n)]))
    console.show({"out": out, "pictures": len(pictures)})


@commands.command(epilog=_example("python -m train export runs/tiny --out generator.safetensors"))
@click.argument("run")
@click.option(
    "--out", required=True, help="A .safetensors file for the averaged part, or a folder for a whole RUN."
)
def export(run: str, out: str) -> None:
    """Writes the newest model, averages in place, for drawing: one safetensors file, or a RUN folder."""
    from train import export as exporting

    console.show(exporting.export(run, out))


@commands.command(epilog=_example("python -m train presets"))
def presets() -> None:
    """Lists the presets."""
    from train.presets import PRESETS

    for preset in PRESETS.values():
        run_config = preset.make()
        groups = run_config.groups
        size = {
            "resolution": groups.model.resolution,
            "batch": groups.training.batch,
            "images": run_config.run.images,
        }
        row = {"name": preset.name, "model": preset.model, "what": preset.what, **size}
        console.show({**row, "hours": preset.hours, "disk": preset.disk, "result": preset.result})


def _train(dry_run: bool, options: dict[str, Any]) -> None:
    from contextlib import closing

    from train import start

    request = start.TrainRequest(**options)
    if dry_run:
        from train import estimate

        for row in estimate.estimate(request):
            console.show(row)
        return
    with console.Bar("images") as bar, closing(start.train(request)) as events:
        for event in events:
            match event:
                case start.Started(images, images_seen):
                    bar.start(images)
                    bar.advance(images_seen)
                case start.Step(images):
                    bar.advance(images)
                case start.Note(text):
                    console.note(text)
                case start.Ended(signal) if signal:
                    sys.exit(128 + signal)


def _drawing_options(words: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Splits prompts from `--name value` and `--name=value`.

    Raises UserError if a value or all prompts are missing."""
    prompts: list[str] = []
    options: dict[str, str] = {}
    waiting = iter(words)
    for word in waiting:
        if not word.startswith("--"):
            prompts.append(word)
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        value = value if equals else next(waiting, "")
        if not value:
            raise UserError(f"--{name} has no value; write --{name} VALUE")
        options[name.replace("-", "_")] = value
    if not prompts:
        raise UserError('no text is given; write one in quotes, as in "a red star"')
    return prompts, options
