"""The commands of evaluate about scenes: reading, obedience, edits, concepts, prompts, and the judge."""

from typing import Annotated

from evaluate.options import Draw, Encoder, Run, drawing, show
from synth import console, options
from synth.errors import UserError
from synth.options import EMPTY, Device, ImagesSeen
from synth.sets import targets

SceneSet = Annotated[str, options.text("--on", "NAME", "The data set of the prompts: scenes_flat or scenes.")]
Facts = Annotated[str, options.text("--facts", "LIST", "Numbers of facts of the prompts, 1 to 8.")]
Prompts = Annotated[int, options.integer("--n", "Prompts of each number of facts.", least=1)]
PromptSeed = Annotated[int, options.integer("--seed", "Seed of the prompts and the latents.")]

app = console.app(
    "Measures by scenes.", "python -m evaluate obedience runs/flat --on scenes_flat --facts 3,6"
)
prompts_app = console.app(
    "Prompts of scenes, with the facts that they state.",
    "python -m evaluate prompts export --on scenes_flat --facts 3,6 --n 512 --out prompts.jsonl",
)
app.add_typer(prompts_app, name="prompts")


@app.command(epilog=console.epilog("python -m evaluate reading runs/flat --on scenes_flat --curve"))
def reading(
    run: Run,
    *,
    on: SceneSet = "scenes_flat",
    facts: Annotated[
        int, options.integer("--facts", "Facts of each text; from 4 on it has two objects.", least=1, most=8)
    ] = 6,
    n: Annotated[int, options.integer("--n", "Scenes to noise.", least=8)] = 128,
    seed: Annotated[int, options.integer("--seed", "Seed of scenes, false words and noise.")] = 0,
    images_seen: ImagesSeen = None,
    curve: Annotated[bool, options.flag("--curve", "Measure every checkpoint.")] = False,
    device: Device = "auto",
) -> None:
    """Measures which facts a denoiser reads: the rise of its loss if one of them is false.

    Rows are by type of fact, each with the rise at every noise level. They go to the run's metrics.jsonl."""
    from evaluate import reading as measuring

    if curve and images_seen is not None:
        raise UserError("--curve measures every checkpoint, so --images-seen has no use; leave one out")
    request = measuring.ReadingRequest(
        run=run,
        name=on,
        facts=facts,
        n=n,
        seed=seed,
        images_seen=images_seen,
        curve=curve,
        device=device,
    )
    show(console.watched("texts", measuring.reading(request), 0))


@app.command(
    epilog=console.epilog("python -m evaluate obedience runs/flat --on scenes_flat --facts 3,6 --n 512")
)
def obedience(
    place: Annotated[
        str, options.place_argument("RUN", "A run; or with --prompts a folder or set of pictures.")
    ],
    *,
    on: SceneSet = "scenes_flat",
    facts: Annotated[
        str | None,
        options.text("--facts", "LIST", "Numbers of facts of the prompts, 1 to 8.  [default: 3,6]"),
    ] = None,
    n: Annotated[
        int | None,
        options.integer("--n", "Prompts of each number of facts.  [default: 512]", least=1),
    ] = None,
    prompts: Annotated[
        str | None,
        options.place("--prompts", "FILE", "Prompts of `prompts export`, one for each picture."),
    ] = None,
    settings: options.Settings = EMPTY,
    seed: Annotated[
        int | None, options.integer("--seed", "Seed of the prompts and the latents.  [default: 0]")
    ] = None,
    images_seen: ImagesSeen = None,
    url: Annotated[
        str | None, options.text("--url", "URL", "An OpenAI-compatible endpoint that judges instead.")
    ] = None,
    model: Annotated[str | None, options.text("--model", "NAME", "The endpoint's model.")] = None,
    draw: Draw = EMPTY,
    encoder: Encoder = None,
    device: Device = "auto",
) -> None:
    """Judges how often pictures have the facts of their prompts, by type of fact and as a whole.

    Each figure comes with the judge's own error. Figures of a run go to its metrics.jsonl."""
    from caption.endpoint import Endpoint
    from evaluate.judge import obedience as judging
    from evaluate.judge import scene_prompts

    # The judge.
    if model is not None and url is None:
        raise UserError(f"--model is {model}, and only an endpoint has models; give --url too")
    endpoint = None if url is None else Endpoint(url, model or "")

    # Pictures that exist.
    if prompts:
        values = {"--facts": facts, "--n": n, "--seed": seed, "--images-seen": images_seen}
        given = [name for name, value in values.items() if value is not None]
        given += [
            name for name, value in (("--set", settings), ("--draw", draw), ("--encoder", encoder)) if value
        ]
        if given:
            raise UserError(f"--prompts is for pictures that exist; leave {', '.join(given)} out")
        prompted = scene_prompts.read(prompts)
        events = judging.of_pictures(place, prompted, on, endpoint)
        show(console.watched("pictures", events, len(prompted)))
        return

    # Pictures of a run.
    prompted = scene_prompts.listed(
        on,
        scene_prompts.numbers("3,6" if facts is None else facts),
        n or 512,
        seed=seed or 0,
        changes=settings,
    )
    events = judging.of_run(
        place,
        prompted,
        on,
        seed=seed or 0,
        images_seen=images_seen,
        encoder=encoder,
        device=device,
        options=drawing(draw),
        endpoint=endpoint,
    )
    show(console.watched("pictures", events, len(prompted)))


@app.command(epilog=console.epilog("python -m evaluate edits runs/flat --n 1000"))
def edits(
    run: Run,
    *,
    on: SceneSet = "scenes_flat",
    facts: Facts = "3,6",
    n: Annotated[int, options.integer("--n", "Scenes to edit.", least=2)] = 1000,
    source: Annotated[
        str, options.text("--source", "KIND", "Pictures to edit: rendered ones, or drawn by the run.")
    ] = "rendered",
    cross: Annotated[
        float, options.number("--cross", "Share of the steps with maps of words from the source.", most=1)
    ] = 0.4,
    itself: Annotated[
        float, options.number("--self", "Share of the steps with maps of self-attention, likewise.", most=1)
    ] = 0.2,
    seed: PromptSeed = 0,
    images_seen: ImagesSeen = None,
    draw: Draw = EMPTY,
    device: Device = "auto",
) -> None:
    """Measures prompt-to-prompt edits against the rendered truth, and two simpler methods.

    The last rows are a table over shares of injection, of 200 scenes each. All rows go to the run's
    metrics.jsonl."""
    from evaluate import edits as measuring
    from evaluate.judge import scene_prompts

    if source not in measuring.SOURCES:
        raise UserError(f"--source is {source}; it must be {' or '.join(measuring.SOURCES)}")
    if source == "drawn" and on != "scenes_flat":
        raise UserError(f"--source drawn needs flat scenes, and --on is {on}; give --source rendered")
    request = measuring.EditsRequest(
        run=run,
        name=on,
        facts=tuple(scene_prompts.numbers(facts)),
        n=n,
        source=source,
        cross=cross,
        itself=itself,
        seed=seed,
        images_seen=images_seen,
        device=device,
        drawing=drawing(draw),
    )
    show(console.watched("edits", measuring.edits(request), request.processed))


@app.command(epilog=console.epilog("python -m evaluate concepts formula-32 --n 20 --out concepts.png"))
def concepts(
    run: Run,
    *,
    on: SceneSet = "scenes_flat",
    facts: Facts = "3,6",
    n: Annotated[
        int, options.integer("--n", "Concepts: kinds in colours, held-out ones first.", least=2)
    ] = 20,
    prompts: Annotated[
        int, options.integer("--prompts", "Prompts of a concept, of each number of facts.", least=1)
    ] = 8,
    pictures: Annotated[
        int, options.integer("--pictures", "Renders that a word is learned from.", least=2, most=64)
    ] = 4,
    detector: Annotated[
        str,
        options.place(
            "--detector",
            "NAME",
            "Net of similarities: efficientnet-lite0, nano, an encoder ...",
        ),
    ] = "efficientnet-lite0",
    settings: Annotated[
        list[str], options.place("--set", "KEY=VALUE", "Of inversion: tokens, per_layer, steps, batch or lr.")
    ] = EMPTY,
    seed: PromptSeed = 0,
    images_seen: ImagesSeen = None,
    draw: Draw = EMPTY,
    out: Annotated[
        str | None, options.place("--out", "FILE", "A PNG of fidelity against similarity.  [default: none]")
    ] = None,
    device: Device = "auto",
) -> None:
    """Measures textual inversion: words that a run learns for concepts which the judge can decide.

    Rows have both methods, the initial word, the concept's name, and renders. All go to the run's
    metrics.jsonl."""
    from evaluate import concepts as measuring
    from evaluate.judge import scene_prompts
    from synth.sets.storage import Folder

    path = targets.file(out, ".png") if out else None
    request = measuring.ConceptsRequest(
        run=run,
        name=on,
        n=n,
        facts=tuple(scene_prompts.numbers(facts)),
        prompts=prompts,
        pictures=pictures,
        detector=detector,
        seed=seed,
        images_seen=images_seen,
        device=device,
        settings=tuple(settings),
        drawing=drawing(draw),
    )
    rows = console.watched("steps", measuring.concepts(request), request.processed)
    if path:
        Folder(str(path.parent)).write(path.name, measuring.plot(rows))
    show(rows)


@prompts_app.command(
    epilog=console.epilog("python -m evaluate prompts export --set split=held_out --n 512 --out unseen.jsonl")
)
def export(
    *,
    on: SceneSet = "scenes_flat",
    facts: Facts = "3,6",
    n: Prompts = 512,
    settings: options.Settings = EMPTY,
    seed: PromptSeed = 0,
    out: Annotated[str, options.place("--out", "FILE", "The JSON lines to write.")] = "prompts.jsonl",
) -> None:
    """Writes prompts with their facts, one JSON object a line: prompt, facts, n_facts, held_out."""
    from evaluate.judge import scene_prompts

    targets.file(out)
    prompted = scene_prompts.listed(on, scene_prompts.numbers(facts), n, seed=seed, changes=settings)
    scene_prompts.write(out, prompted)
    console.note(f"written: {out}")


@app.command(epilog=console.epilog("python -m evaluate fit-judge --out data/judge"))
def fit_judge(
    *,
    out: Annotated[str, options.place("--out", "FOLDER", "The folder to write.")] = "data/judge",
    seed: Annotated[int, options.integer("--seed", "Seed of the weights and the scenes.")] = 0,
    visits: Annotated[
        int, options.integer("--visits", "Scenes, each drawn at 32 and 64 pixels.", least=16)
    ] = 150_000,
    n: Annotated[
        int, options.integer("--n", "Fresh pictures of each set and size to examine it on.", least=10)
    ] = 5_000,
    prompts: Annotated[
        int, options.integer("--prompts", "Fresh prompts of each number of facts, likewise.", least=2)
    ] = 500,
) -> None:
    """Fits the judge of scenes to fresh renders, and measures its accuracy."""
    from evaluate.judge import fitting

    targets.folder(out)
    request = fitting.FitRequest(out, seed=seed, visits=visits, pictures=n, prompts=prompts)
    for row in console.watched("pictures", fitting.fit(request), request.processed):
        console.show(row)


@app.command(epilog=console.epilog("python -m evaluate examine-judge --out data/judge"))
def examine_judge(
    *,
    out: Annotated[str, options.place("--out", "FOLDER", "The folder of a judge.")] = "data/judge",
    n: Annotated[
        int, options.integer("--n", "Fresh pictures of each set and size to examine it on.", least=10)
    ] = 5_000,
    prompts: Annotated[
        int, options.integer("--prompts", "Fresh prompts of each number of facts, likewise.", least=2)
    ] = 500,
) -> None:
    """Measures the accuracy of a fitted judge again, and writes its figures and card."""
    from evaluate.judge import fitting

    targets.folder(out)
    request = fitting.FitRequest(out, visits=0, pictures=n, prompts=prompts)
    for row in console.watched("pictures", fitting.examine(request), request.processed):
        console.show(row)
