"""The commands of train that read and change drawing: attention, edit, invert."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synth import console, options
from synth.errors import UserError
from synth.options import EMPTY, Device, ImagesSeen
from synth.sets import targets

if TYPE_CHECKING:
    from train import runs

Run = Annotated[
    str, options.place_argument("RUN", "A run directory, an export, or a shipped model, formula-32.")
]
Seed = Annotated[int, options.integer("--seed", "Seed of the noise.")]
Words = Annotated[
    list[str],
    options.place("--word", "DIR", "A learned word of `invert`, to use in the prompts; may be repeated."),
]

app = console.app("Reads and changes drawing.", 'python -m train attention runs/flat "a red star on white"')

_PASSED_ON: dict[str, Any] = {"ignore_unknown_options": True}  # drawing options are the model's


@app.command(
    context_settings=_PASSED_ON,
    epilog=console.epilog('python -m train attention runs/flat "a red star on white" --out maps.png'),
)
def attention(
    run: Run,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="The prompt.")],
    out: Annotated[str, options.place("--out", "FILE", "The PNG to write.")] = "maps.png",
    seed: Seed = 0,
    word: Words = EMPTY,
    images_seen: ImagesSeen = None,
    device: Device = "auto",
) -> None:
    """Draws a picture of a text, with a map of each word: the pixels that read it.

    Drawing options of the run's model follow RUN. Those of diffusion are --steps, --guidance, --sampler,
    --least-guided, --most-guided, --weak and --base."""
    prompts, drawing = split(run, texts)
    if len(prompts) != 1:
        raise UserError(f"{len(prompts)} texts are given; give one in quotes")
    target = targets.file(out, ".png")

    from caption import encoders
    from train import runs
    from train.sampling import sheets

    source = runs.find(run)
    _show_notes(source, prompts, drawing, word)
    row = sheets.attention(
        target,
        source,
        prompts[0],
        seed=seed,
        options=drawing,
        images_seen=images_seen,
        learned_words=word,
        device=encoders.choose_device(device),
    )
    console.show(row)


@app.command(
    context_settings=_PASSED_ON,
    epilog=console.epilog(
        'python -m train edit runs/flat "a red star on white" "a green star on white" --out edit.png'
    ),
)
def edit(
    run: Run,
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT EDITED", help="The prompt, and the edited one.")
    ],
    out: Annotated[str, options.place("--out", "FILE", "The PNG to write.")] = "edit.png",
    cross: Annotated[
        float, options.number("--cross", "Share of the steps with maps of words from the source.", most=1)
    ] = 0.4,
    itself: Annotated[
        float, options.number("--self", "Share of the steps with maps of self-attention, likewise.", most=1)
    ] = 0.2,
    share: Annotated[
        list[str], options.text("--share", "WORD=X", "Another --cross for one word; may be repeated.")
    ] = EMPTY,
    weight: Annotated[
        list[str],
        options.text("--weight", "WORD=X", "A factor on a word's maps during --cross; may be repeated."),
    ] = EMPTY,
    kind: Annotated[
        str, options.text("--kind", "KIND", "replace, refine, or auto: by the words of the prompts.")
    ] = "auto",
    keep_background: Annotated[
        bool, options.flag("--keep-background", "Keep the pixels outside of the maps of changed words.")
    ] = False,
    picture: Annotated[
        str | None, options.place("--picture", "FILE", "A picture to edit, which the first prompt describes.")
    ] = None,
    seed: Annotated[int | None, options.integer("--seed", "Seed of the noise.  [default: 0]")] = None,
    word: Words = EMPTY,
    images_seen: ImagesSeen = None,
    device: Device = "auto",
) -> None:
    """Edits a picture by its prompt, and keeps its layout (prompt-to-prompt).

    The sheet has the source, the edit, their difference, and the maps of changed words. Drawing options of
    the run's model follow RUN. Those of diffusion are --steps, --guidance, --sampler, --least-guided,
    --most-guided, --weak and --base."""
    # Options.
    prompts, drawing = split(run, texts)
    if picture is not None and seed is not None:
        raise UserError(f"--seed is {seed}, and --picture has no random noise; leave one out")
    if len(prompts) != 2:
        count = "1 text is" if len(prompts) == 1 else f"{len(prompts)} texts are"
        raise UserError(f"{count} given; give two in quotes, the prompt and the edited one")
    shares = _by_word("--share", share, least=0, most=1)
    weights = _by_word("--weight", weight, least=-10, most=10)
    target = targets.file(out, ".png")

    from caption import encoders
    from train import runs
    from train.sampling import editing, sheets

    plan = editing.Plan(cross, itself, shares, weights, kind, keep_background)
    source = runs.find(run)
    _show_notes(source, prompts, drawing, word)
    row = sheets.edit(
        target,
        source,
        (prompts[0], prompts[1]),
        plan,
        seed=seed or 0,
        picture=picture,
        options=drawing,
        images_seen=images_seen,
        learned_words=word,
        device=encoders.choose_device(device),
    )
    console.show(row)


@app.command(
    epilog=console.epilog(
        "python -m train invert runs/flat --pictures photos --word '<thing>' --init star --out runs/thing"
    )
)
def invert(
    run: Run,
    *,
    pictures: Annotated[
        str, options.place("--pictures", "DIR", "A folder of pictures of one concept, or a finished set.")
    ],
    word: Annotated[str, options.text("--word", "WORD", "The new word, such as '<thing>'.")],
    init: Annotated[str, options.text("--init", "WORD", "A word of the run that the new one begins at.")],
    out: Annotated[str, options.place("--out", "DIR", "The folder of the word to write.")],
    n: Annotated[
        int, options.integer("--n", "Pictures to take, the first of the folder.", least=1, most=64)
    ] = 5,
    text: Annotated[
        list[str],
        options.text("--text", "TEXT", "A text of the pictures, with {} for the word; may be repeated."),
    ] = EMPTY,
    settings: Annotated[
        list[str],
        options.place("--set", "KEY=VALUE", "tokens, per_layer, method=row|keys, steps, batch, lr or seed."),
    ] = EMPTY,
    images_seen: ImagesSeen = None,
    device: Device = "auto",
) -> None:
    """Learns a word for the concept of a few pictures (textual inversion).

    `python -m train sample RUN TEXT --word DIR` draws with it. The run itself does not change."""
    if any("{}" not in template for template in text):
        raise UserError("--text has no {}; write {} in the place of the word, as in 'a {} on white'")
    from train.sampling import inverting

    request = inverting.InvertRequest(
        run=run,
        pictures=pictures,
        word=word,
        init=init,
        out=out,
        n=n,
        texts=tuple(text) or inverting.TEMPLATES,
        images_seen=images_seen,
        device=device,
        settings=inverting.settings_of(settings),
    )
    console.show(console.watched("steps", inverting.invert(request), request.settings.steps))


def split(run: str, words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Splits the words after a run into prompts and drawing options, `--name value` or `--name=value`.

    Raises UserError if a value or all prompts are missing, an option has one dash, or one stands before the
    run."""
    if run.startswith("-"):
        _require_two_dashes(run)
        option = run.partition("=")[0]
        raise UserError(f"{option} stands before RUN; drawing options follow it: RUN TEXT {option} VALUE")
    prompts: list[str] = []
    drawing_options: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        if not word.startswith("--"):
            _require_two_dashes(word)
            prompts.append(word)
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        value = value if equals else next(remaining, "")
        if not value or (not equals and value.startswith("--")):
            raise UserError(f"--{name} has no value; write --{name} VALUE")
        drawing_options[name.replace("-", "_")] = value
    if not prompts:
        raise UserError('no text is given; write one in quotes, as in "a red star"')
    return prompts, drawing_options


def _require_two_dashes(word: str) -> None:
    """Raises UserError if a word is an option with one dash."""
    if re.match(r"-[a-zA-Z]", word):
        raise UserError(f"unknown option {word}; write -{word}")


def _by_word(option: str, values: Sequence[str], *, least: float, most: float) -> dict[str, float]:
    """Returns numbers by word. Raises UserError if a value has another form or range."""
    numbers = {}
    for value in values:
        word, _, text = value.rpartition("=")
        if not word:
            raise UserError(f"{option} is {value!r}; give WORD=X, such as {option} red=1")
        try:
            numbers[word.lower()] = options.in_range(option, options.real, least, most, False, False, text)
        except typer.BadParameter as error:
            raise UserError(f"{option} is {value!r}: {error.message}; give WORD=X") from None
    return numbers


def _show_notes(
    run: "runs.Run", prompts: Sequence[str], drawing: Mapping[str, str], words: Sequence[str]
) -> None:
    """Prints notes on prompts that a run reads in part."""
    from train.sampling import unread

    for note in unread.notes(run, prompts, drawing, words):
        console.note(note)
