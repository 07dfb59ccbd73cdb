"""Sets of pictures that a run draws, by the commit protocol of every set: several of each prompt, at several
guidance scales (Tian et al., StableRep, NeurIPS 2023, section 3).

Picture i is number k = i mod K of prompt p = i div K. Its guidance is entry (p + k) mod G of the list, so the
scales have equal parts. The JSON has prompt, guidance, and p as `class`; the .txt has the prompt. So training
in groups, probes and other tools read such a set as any other.

Axes: K pictures of a prompt, G guidance scales.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from time import process_time
from typing import Any, NamedTuple

import torch

from caption import encoders
from synth import settings
from synth.errors import UserError
from synth.images.codecs import CODECS, encode_png
from synth.images.pictures import contact_sheet
from synth.sets import checksums, completion, croissant, front_matter, ledger, places, shards
from synth.sets.completion import Estimate, Execution, Outcome, Probe, Progress, Work
from synth.sets.records import Part, Record
from synth.sets.storage import open_storage
from synth.stopwatch import Stopwatch
from train import checkpoint, provenance, runs
from train.sampling import draw, prompts, unread

LAW = 1  # increased when the same request gives other pictures

# Lists of the paper.
SCALES = {"small": "2,3", "large": "8,10", "mixed": "2,3,4,5,6,8,10,12"}

_AT_ONCE = 64  # pictures between two steps of progress
_PROBES = 4  # pictures of the preflight
_SHOWN = 64  # pictures of a preview
_VERSIONED = ("torch", "numpy")

Json = dict[str, Any]


@dataclass(frozen=True)
class SynthesisRequest:
    """The options of one `synthesise` command."""

    run: str
    out: str
    prompts: int
    per_prompt: int = 6
    guidance: str = "1,2,3,5,8"  # numbers, or a name of SCALES
    on: str | None = None  # a set with the captions; None: the run's sets
    seed: int = 0
    images_seen: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)  # of drawing, in their command-line form
    encoder: str | None = None
    codec: str = "png"
    shard_size: int = 4096
    workers: int | None = 0
    device: str = "auto"
    overwrite: bool = False


class SynthesisSummary(NamedTuple):
    """The result of a `synthesise` command. `drawn` and `bytes` count this command, `pictures` the set."""

    out: str
    pictures: int
    drawn: int
    bytes: int
    seconds: float


class SynthesisJob(NamedTuple):
    """One shard to draw."""

    part: Part
    texts: tuple[str, ...]  # of its pictures
    scales: tuple[float, ...]
    request: SynthesisRequest
    device: str
    identity: Json


def estimate(request: SynthesisRequest) -> Estimate:
    """Returns the estimate of a request (--dry-run). Draws some pictures, and writes nothing. Raises
    UserError."""
    return completion.foresee(_Synthesis(request), _execution(request))


def synthesise(request: SynthesisRequest) -> Generator[Estimate | Progress | SynthesisSummary, None, None]:
    """Draws the missing shards of a request. Leaves finished shards alone.

    Yields the estimate before it writes anything, then the progress, and at the end the summary. Raises
    UserError."""
    work = _Synthesis(request)
    for event in completion.complete(work, _execution(request)):
        if isinstance(event, Outcome):
            drawn, size = (sum(getattr(r, name) for r in event.records) for name in ("count", "bytes"))
            pictures, seconds = sum(part.count for part in work.parts), round(event.seconds, 1)
            yield SynthesisSummary(work.storage.url, pictures, drawn, size, seconds)
        else:
            yield event
        if isinstance(event, Estimate):
            for note in unread.notes(work.run, work.prompts, request.options):
                yield Progress(0, note=note)


def scales(text: str) -> tuple[float, ...]:
    """Returns guidance scales from numbers with commas, or from a name of SCALES.

    Raises UserError for anything else."""
    try:
        values = tuple(float(part) for part in SCALES.get(text, text).split(","))
    except ValueError:
        values = ()
    if not values or not all(0 <= value <= 100 for value in values):
        allowed = f"numbers of 0 to 100 with commas, as in 1,2,3, or {', '.join(SCALES)}"
        raise UserError(f"--guidance is {text!r}; give {allowed}")
    return values


def written(scale: float) -> str:
    """Returns a guidance scale in all its digits: 2, or 1.23456789."""
    return repr(scale).removesuffix(".0")


def draw_shard(job: SynthesisJob) -> Iterator[int | Record]:
    """Draws, publishes and records one shard: the task of a worker.

    Yields the number of pictures done since the last yield, then the record. Raises UserError."""
    watch, storage, codec = Stopwatch.start(), open_storage(job.request.out), CODECS[job.request.codec]
    with storage.staged(job.part.file) as path, shards.ShardWriter(path) as writer:
        for start in range(0, job.part.count, _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, job.part.count))
            pictures = _drawn(job, rows)
            for row in rows:
                number = job.part.first + row
                metadata = _metadata(job, number, row)
                files = {codec.extension: codec.encode(pictures[row]), "json": settings.canonical(metadata)}
                writer.add(shards.sample_key(number), {**files, "txt": job.texts[row].encode()})
            yield len(rows)

    # Record.
    record = Record.of(
        job.part,
        job.identity,
        {},
        watch,
        bytes=writer.size,
        sha256=writer.sha256,
        packages=_VERSIONED,
        entries={"device": job.device},
    )
    ledger.write_record(storage, record)
    yield record


def _drawn(job: SynthesisJob, rows: range) -> dict[int, Any]:
    """Returns the pictures of these rows of a shard: uint8 (R, R, 3) each. Draws those of one scale
    together."""
    pictures: dict[int, Any] = {}
    by_scale: dict[float, list[int]] = {}
    for row in rows:
        by_scale.setdefault(job.scales[row], []).append(row)
    for scale, members in by_scale.items():
        drawing = _drawing(job.request, tuple(job.texts[row] for row in members), scale, job.device)
        if list(drawing.opened) != job.identity.get("opened", []):
            problem = f"{job.request.options.get('base')} has a newer checkpoint than when this command began"
            raise UserError(f"{problem}; wait until that run has ended, then run the command again")
        numbers = [job.part.first + row for row in members]
        pictures |= zip(members, drawing.numbered(numbers), strict=True)
    return pictures


def _drawing(request: SynthesisRequest, texts: tuple[str, ...], scale: float, device: str) -> draw.Drawing:
    """Returns the drawing of texts at a guidance scale."""
    run, model = _opened(request.run, request.images_seen, device)
    options = {**request.options, "guidance": written(scale)}
    vectors = None
    if "vectors" in draw.reads(model.name, options):
        vectors = torch.from_numpy(run.encoder(request.encoder, device).texts(texts))
    rows = draw.texts_of(model, texts, vectors, device)
    return draw.drawing(model, rows, seed=request.seed, options=options, run=run)


@lru_cache(maxsize=1)
def _opened(place: str, images_seen: int | None, device: str) -> tuple[runs.Run, Any]:
    """Returns a run and its model. A worker opens it once."""
    run = runs.find(place)
    return run, run.load(run.checkpoint(images_seen), device)


def _metadata(job: SynthesisJob, number: int, row: int) -> Json:
    """Returns the JSON of a picture."""
    prompt, instance = divmod(number, job.request.per_prompt)
    return {
        "dataset": job.identity["dataset"],
        "index": number,
        "class": prompt,
        "instance": instance,
        "prompt": job.texts[row],
        "guidance": job.scales[row],
        "seed": job.request.seed,
        "size": job.identity["size"],
    }


def _execution(request: SynthesisRequest) -> Execution:
    return Execution(request.workers, None, request.overwrite)


class _Synthesis(Work):
    """The plan of a set of drawn pictures."""

    packages = ("synth", "caption", "train")
    companions = ("README.md", "croissant.json", "preview.png", checksums.NAME)
    task = staticmethod(draw_shard)

    def __init__(self, request: SynthesisRequest) -> None:
        # Run, prompts and scales.
        self._device = encoders.choose_device(request.device)
        self.gpus = 1 if self._device.startswith("cuda") else 0
        self.run = runs.find(request.run)
        module = draw.require_drawing(self.run.model, request.run)
        if not hasattr(module.Options(), "guidance"):
            problem = f"{request.run} is a run of {self.run.model}"
            raise UserError(f"{problem}, and synthesise needs a run with guidance, such as diffusion")
        self._scales = scales(request.guidance)
        options = {**request.options, "guidance": written(self._scales[0])}
        opened = draw.opened_by(module, draw.options_of(self.run.model, options), self.run)
        if request.encoder and "vectors" not in draw.reads(self.run.model, options):
            raise UserError(f"--encoder is {request.encoder}, and {request.run} reads words; leave it out")
        if request.codec not in CODECS:
            raise UserError(f"unknown codec {request.codec!r}; known are {', '.join(CODECS)}")
        self.prompts = prompts.of_run(self.run, request.prompts, request.on)

        # All jobs draw from one checkpoint, also while the run trains.
        folder = self.run.checkpoint(request.images_seen)
        self._request = replace(request, images_seen=self.run.images_seen(folder))

        # Everything that decides the pictures.
        count, dataset = request.prompts * request.per_prompt, places.name_of(request.out)
        identity = {
            "dataset": dataset,
            "law": LAW,
            "weights": checkpoint.digest(folder),
            "prompts": {"count": request.prompts, "digest": settings.digest(self.prompts)},
            "per_prompt": request.per_prompt,
            "guidance": list(self._scales),
            "options": dict(request.options),
            "seed": request.seed,
            "size": self.run.config.groups.model.resolution,
            "codec": request.codec,
            "shard_size": request.shard_size,
        }
        if opened:
            identity["opened"] = list(opened)
        plan = shards.plan(dataset, count, request.shard_size)
        super().__init__(open_storage(request.out), identity, plan)

    @property
    def places(self) -> int:
        return torch.cuda.device_count() if self.gpus else super().places

    def probe(self) -> Probe:
        # The first call also loads the model, and is not measured.
        [job] = self.jobs(self.parts[:1])
        _drawn(job, range(1))
        begun, count = process_time(), min(_PROBES, job.part.count)
        pictures = _drawn(job, range(count))
        size = sum(len(CODECS[self._request.codec].encode(picture)) + 2048 for picture in pictures.values())
        return Probe(size / count, (process_time() - begun) / count)

    def jobs(self, parts: Sequence[Part]) -> list[SynthesisJob]:
        jobs = []
        for part in parts:
            pairs = [divmod(part.first + row, self._request.per_prompt) for row in range(part.count)]
            texts = tuple(self.prompts[prompt] for prompt, _ in pairs)
            chosen = tuple(self._scales[sum(pair) % len(self._scales)] for pair in pairs)
            jobs.append(SynthesisJob(part, texts, chosen, self._request, self._device, self.identity))
        return jobs

    def statement(self, records: Sequence[Record]) -> Json:
        return {
            "title": f"pictures by {self.run.model}, {self._request.per_prompt} of each prompt",
            "source": f"the run {places.name_of(self._request.run)}",
            "licence": provenance.licence_of(provenance.data_of(self.run)),
            "channels": 3,
        }

    def documents(self, manifest: Json) -> Mapping[str, bytes]:
        extension = CODECS[self._request.codec].extension
        entries = croissant.About(
            description=f"{manifest['samples']:,} {manifest['title']}",
            licence=manifest["licence"],
            provenance=f"drawn by {manifest['source']} of exnihilo",
            extension=extension,
            record="Prompt, guidance and numbers of the picture, as JSON.",
            captions="The prompt.",
        )
        return {
            "README.md": self._card(manifest, extension).encode(),
            "croissant.json": croissant.document(manifest, entries),
            "preview.png": encode_png(self._sheet(manifest)),
            checksums.NAME: checksums.document(manifest),
        }

    def _sheet(self, manifest: Json) -> Any:
        """Returns a contact sheet of the first pictures: uint8 (H, W, 3)."""
        first = manifest["parts"][0]["file"]
        with self.storage.whole(first) as file:
            samples = shards.read_shard(file, self.storage.join(first))
            return contact_sheet([sample.pixels for _, sample in zip(range(_SHOWN), samples, strict=False)])

    def _card(self, manifest: Json, extension: str) -> str:
        """Returns the text of README.md."""
        identity = self.identity
        head = front_matter.of_dataset(
            identity["dataset"],
            manifest["title"],
            manifest["licence"],
            manifest["samples"],
            tasks=("text-to-image",),
            tags=("webdataset", "synthetic"),
            splits={"train": f"{identity['dataset']}-*.tar"},
        )
        listed, count = ", ".join(map(written, self._scales)), identity["prompts"]["count"]
        return f"""{head}# {identity["dataset"]}: {manifest["title"]}

{manifest["samples"]:,} pictures of {identity["size"]} x {identity["size"]} pixels by {manifest["source"]}:
{identity["per_prompt"]} of each of {count:,} prompts. Guidance scales in turn: {listed}.

![The first pictures](preview.png)

Licence: {manifest["licence"]}

`000000123.{extension}` is a picture, `000000123.txt` its prompt, and `000000123.json` has prompt, guidance
and the number of the prompt as `class`. `manifest.json` lists every tar with its sha256. `sha256sum -c
{checksums.NAME}` compares them.

{croissant.sharing(manifest["parts"])}

Manifest digest, to which later stages are pinned: `{ledger.manifest_digest(manifest)}`.
"""
