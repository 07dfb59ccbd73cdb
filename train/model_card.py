"""The card of an exported model: its origin, use, figures, training, files, data and their licences."""

import re
import shlex
from pathlib import Path
from typing import Any

from synth.errors import UserError
from synth.sets import checksums, front_matter
from train import model, onnx_file, provenance
from train.checkpoint import COMMITTED, part_file
from train.loop import parameters
from train.model import Loaded
from train.runs import CONFIG, Run
from train.sampling import draw

MODEL, ONNX, SAMPLES, CARD, ENCODER = "model.py", "model.onnx", "samples.png", "README.md", "encoder"

_DRAW = """
## Draw

[model.py](model.py) holds the networks, and needs torch, safetensors and numpy alone. In this folder:

```python
{lines}
```

{encoder}

With a checkout of exnihilo the folder is a RUN: `python -m train sample FOLDER "a red star"`.
"""
_BY_VECTORS = """\
import torch
import model

drawer = model.load()
vectors = torch.nn.functional.normalize(torch.randn(4, {width}), dim=1)  # replace them by embeddings of texts
pictures = drawer.draw(model.Texts(vectors), seed=0{options})  # (4, 3, {side}, {side}), about -1..1"""
_BY_WORDS = """\
import model

drawer = model.load()
texts = drawer.texts(["a red star on white", "a blue ring on black"])
pictures = drawer.draw(texts, seed=0)  # float32 (2, 3, {side}, {side}), about -1..1"""
_EMBED = """\
The encoder of its texts is in [encoder](encoder/README.md). With open_clip, texts become vectors so:

```python
import open_clip
import torch

clip, _, _ = open_clip.create_model_and_transforms("local-dir:encoder")
tokens = open_clip.get_tokenizer("local-dir:encoder")(["a red star"])
vectors = torch.nn.functional.normalize(clip.encode_text(tokens), dim=1)
```"""

_SAMPLES, _UNDRAWN = "![pictures of texts](samples.png)", "The model draws no pictures."
# The paragraphs between the sentence on the origin, maybe with the pictures, and the next section.
_NOTES = re.compile(
    rf"^A model of exnihilo, with .*\n\n(?:{re.escape(_SAMPLES)}\n\n)?(?:((?:.|\n)*?)\n\n)??"
    rf"(?:{re.escape(_DRAW.strip().partition(' holds')[0])}|{re.escape(_UNDRAWN)})",
    re.MULTILINE,
)

_CONDITIONS = ("method", "minus", "kind", "cross")  # of a row of figures, those that the card names
_MACHINE = ("torch", "device", "cpu_capability", "threads", "ranks")  # of its entries, those of the card

Json = dict[str, Any]


def notes(path: str) -> str:
    """Returns the notes for a card from a file. Raises UserError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"--notes {path} cannot be read: {reason}; give a file of Markdown") from None


def kept_notes(folder: Path) -> str:
    """Returns the notes in the card of an export, or nothing."""
    try:
        card = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    match = _NOTES.search(card)
    return (match[1] if match else None) or ""


def text(run: Run, name: str, loaded: Loaded, notes: str, *, shipped: bool, samples: bool) -> str:
    """Returns the card with some notes. `shipped`: the folder has the encoder. `samples`: it has a sample
    grid."""
    # Front matter.
    rows, draws = provenance.data_of(run), hasattr(model.find(run.model), "draw")
    licence = provenance.licence_of(rows)
    head = front_matter.of_model(
        name,
        f"{run.model} of exnihilo",
        licence,
        library="pytorch",
        task="text-to-image" if draws else "image-feature-extraction",
        tags=(run.model,),
    )

    # Sections.
    side = run.config.groups.model.resolution
    imported = run.metadata.get("imported")
    origin = f"It was imported from {imported['from']}, sha256 `{imported['sha256']}`." if imported else ""
    if not imported:
        sets = " + ".join(dict.fromkeys(row["name"] for row in rows))
        images = run.metadata.get("images", run.images_seen(run.path))
        origin = f"It saw {images:,} images of {sets}."
    sections = [
        f"# {name}: {run.model}, {side} x {side} pixels",
        f"A model of exnihilo, with {parameters(*loaded.parts.values()):,} parameters. {origin}",
        _SAMPLES if samples else "",
        notes,
        _drawing(run, side, shipped=shipped) if draws else _UNDRAWN,
        _figures(run),
        _training(run),
        _files(run, loaded, draws=draws),
        _data(rows, licence),
    ]
    return head + "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _drawing(run: Run, side: int, *, shipped: bool) -> str:
    """Returns the section about drawing."""
    encoder = run.metadata["encoder"]
    options = draw.usual_options(run.model, run.config.groups)
    words = "vectors" not in draw.reads(run.model, options)
    sentence = "It reads words alone." if words else "The run names no encoder of its texts."
    sentence = _EMBED if shipped else sentence
    if encoder and not shipped and not words:
        digest = f"Its weights have the sha256\n`{encoder['digest']}`."
        sentence = f"The encoder of its texts is {encoder['name']}. {digest}"
    given = "".join(f', {name}="{value}"' for name, value in options.items())
    lines = _BY_WORDS if words else _BY_VECTORS
    lines = lines.format(width=run.config.groups.model.text_dim, side=side, options=given)
    return _DRAW.format(lines=lines, encoder=sentence)


def _figures(run: Run) -> str:
    """Returns the section with the figures of `evaluate`, or nothing if the run has none."""
    rows = run.metadata.get("figures")
    if not rows:
        return ""
    lines = []
    for row in rows:
        if row["metric"].endswith(" mean"):
            continue
        # Rows of `reading` and `loss` name the ends of their interval.
        ends = row.get("interval") or [row[end] for end in ("low", "high") if row.get(end) is not None]
        interval = " to ".join(f"{value:.4g}" for value in ends)
        sets = row["sets"] if isinstance(row.get("sets"), list) else [row.get("set") or ""]
        count = row.get("pictures") if isinstance(row.get("pictures"), int) else row.get("n", "")
        if row["metric"].startswith("obedience:") and "facts" in row:
            count = f"{row['facts']} facts"
        value = "none" if row["value"] is None else f"{row['value']:.4g}"
        cells = (_named(row), f"{' + '.join(sets)} {row.get('split', '')}".strip(), value)
        lines.append(f"| {' | '.join((*cells, interval, str(count)))} |")
    head = "| figure | of | value | 95 % interval | pictures, or facts |\n| --- | --- | --- | --- | --- |"
    table = "\n".join(lines)
    return f"## Figures\n\nBy `python -m evaluate`:\n\n{head}\n{table}"


def _named(row: Json) -> str:
    """Returns the name of a figure with its conditions."""
    conditions = ", ".join(f"{name} {row[name]}" for name in _CONDITIONS if name in row)
    return f"{row['metric']} ({conditions})" if conditions else str(row["metric"])


def _training(run: Run) -> str:
    """Returns the section with commands and machine of training, or nothing if the run names none."""
    origin, commands = run.metadata.get("made_by", {}), run.metadata.get("commands")
    if not commands:
        return ""
    seconds, machine = run.metadata.get("cpu_seconds"), origin.get("machine", {})
    facts = [f"Seed {run.config.groups.training.seed}"]
    facts += [f"{seconds / 3600:.2g} CPU-hours"] if seconds else []
    facts += [f"{key.replace('_', ' ')} {machine[key]}" for key in _MACHINE if machine.get(key)]
    facts += [f"commit {origin['commit'][:12]}"] if origin.get("commit") else []
    lines = "\n".join(shlex.join(("python", "-m", "train", *argv)) for argv in commands)
    proof = "`python -m train prove` trains it again from the same data, and compares the weights."
    return f"## Training\n\n```\n{lines}\n```\n\n{', '.join(facts)}. {proof}"


def _files(run: Run, loaded: Loaded, *, draws: bool) -> str:
    """Returns the table of files."""
    rows = {part_file(part): "weights" for part in loaded.parts}
    rows[CONFIG] = "model, settings, digests of the data, name and sha256 of the encoder"
    if draws:
        call, latents = onnx_file.content(loaded), run.config.needs.latents
        shape = f"(N, {run.config.groups.model.planes}, S, S)" if latents else "(N, 3, R, R)"
        rows[MODEL] = "opens the folder and draws"
        rows[ONNX] = f"optional, from `--onnx`: {call.words} -> `{call.output}` {shape}, for any N"
    rows[f"{COMMITTED}, {checksums.NAME}"] = "checksums, for exnihilo and for `sha256sum -c`"
    table = "\n".join(f"| {name} | {what} |" for name, what in rows.items())
    return f"## Files\n\n| file | content |\n| --- | --- |\n{table}"


def _data(rows: list[Json], licence: str) -> str:
    """Returns the section about the data and the licence."""
    lines = []
    for row in rows:
        name = f"{row['name']}: {row['read']}" if "read" in row else row["name"]
        digest = f"`{row['digest']}`" if row["digest"] else "unknown"
        lines.append(f"| {name} | {row['licence']} | {digest} |")
    table = "\n".join(lines)
    head = "## Data and licence\n\n| data | licence | digest |\n| --- | --- | --- |"
    terms = licence if " " in licence else f"The licence of the weights is {licence}."
    return f"{head}\n{table}\n\n{terms} model.py is Apache-2.0."
