"""The card of a fitted judge: its origin and its figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evaluate.judge.exam import Accuracy
from evaluate.judge.rates import Counted
from synth.sets import front_matter

if TYPE_CHECKING:
    from evaluate.judge.fitting import FitRequest

NAME = "README.md"

Json = dict[str, Any]

_TITLE = "a judge of scenes, fitted to renders only"
_CARD = """{head}# judge: {title}

A small convolutional network that sees a scene in a picture: the backdrop, and of each object kind, colour,
size, filling and place, and which object hides or holds which. Its training data are renders of exnihilo's
own formulas. Its weights and figures are CC0-1.0.

```
python -m evaluate fit-judge --out data/judge --seed {seed} --visits {visits}
```

{visits:,} scenes, each drawn at 32 and at 64 pixels, took {fit:.1f} CPU minutes on one thread. The loss went
from {first:.2f} to {last:.2f}. The same seed gives the same bytes on machines of one type.

| file | content |
| --- | --- |
| judge.safetensors | weights, stored as fp16, fp32 in memory |
| accuracy.json | the counts behind the figures below |

"""
_FIGURES = """## Figures

Right facts of {pictures:,} fresh renders of each set and side, in per cent:

{facts}

Whole prompts of fresh renders, by number of facts: accepted if they are right, and accepted though exactly
one fact is changed, in per cent of at most {prompts:,} prompts each:

{whole}

{same}

At 64 pixels, rendered outlines are matched with the objects that the network sees. They decide kind, size,
place, filling and depth, and find objects that it misses. At 32 pixels the network decides alone.

Flat scenes (`scenes_flat`) are seen without the network: colour words, connected components and rendered
templates. Texts are read by templates of the glyphs, from scenes with `letters=true`.

Blurred generated pictures may be judged worse than these renders.
"""


def text(
    request: "FitRequest",
    accuracies: Sequence[Accuracy],
    minutes: float,
    losses: Sequence[float],
) -> str:
    """Returns the card of a fit that took some minutes."""
    head = front_matter.of_model(
        "judge", _TITLE, "CC0-1.0", library="exnihilo", task="object-detection", tags=["judge", "scenes"]
    )
    tenth = max(1, len(losses) // 10)
    fit = _CARD.format(
        head=head,
        title=_TITLE,
        seed=request.seed,
        visits=request.visits,
        fit=minutes,
        first=sum(losses[:tenth]) / tenth,
        last=sum(losses[-tenth:]) / tenth,
    )
    return fit + _figures(accuracies)


def examined(before: str, accuracies: Sequence[Accuracy]) -> str:
    """Returns an existing card with the figures of another exam."""
    fit, _, _ = before.partition(_FIGURES[: _FIGURES.index("\n")])
    return fit + _figures(accuracies)


def _figures(accuracies: Sequence[Accuracy]) -> str:
    return _FIGURES.format(
        pictures=accuracies[0].pictures,
        prompts=accuracies[0].accepted[1].n,
        facts=_facts(accuracies),
        whole=_whole(accuracies),
        same=_same(accuracies),
    )


def rows(accuracy: Accuracy) -> list[Json]:
    """Returns the figures of a set and side as rows to show."""
    shared = {"set": accuracy.name, "side": accuracy.side}
    facts = {name: round(counted.rate, 4) for name, counted in accuracy.facts.items()}
    accepted = {str(k): round(counted.rate, 4) for k, counted in accuracy.accepted.items()}
    false_accepts = {str(k): round(counted.rate, 4) for k, counted in accuracy.false_accepts.items()}
    return [
        {**shared, "right facts": facts},
        {**shared, "accepted right prompts": accepted, "false accepts": false_accepts},
        {**shared, "kinds that share a word": accuracy.same},
    ]


def _facts(accuracies: Sequence[Accuracy]) -> str:
    names = sorted({name for accuracy in accuracies for name in accuracy.facts} - {"all"})
    return _table(
        ["fact", *(f"{a.name}, {a.side} px" for a in accuracies)],
        [[name, *(_per_cent(a.facts.get(name)) for a in accuracies)] for name in ("all", *names)],
    )


def _whole(accuracies: Sequence[Accuracy]) -> str:
    lines = [
        [str(k), *(f"{_per_cent(a.accepted[k])} / {_per_cent(a.false_accepts[k])}" for a in accuracies)]
        for k in sorted(accuracies[0].accepted)
    ]
    return _table(["facts", *(f"{a.name}, {a.side} px" for a in accuracies)], lines)


def _same(accuracies: Sequence[Accuracy]) -> str:
    sentences = []
    for accuracy in (a for a in accuracies if a.same):
        groups = [
            ", ".join(kind for kind, shared in accuracy.same.items() if shared == word)
            for word in sorted(set(accuracy.same.values()))
        ]
        place = f"{accuracy.name} at {accuracy.side} px"
        sentences.append(
            f"Kinds of {place} that share a word, as the judge confuses them: {'; '.join(groups)}."
        )
    return "\n".join(sentences) or "No kinds share a word."


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows_ = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows_)


def _per_cent(counted: Counted | None) -> str:
    return f"{100 * counted.rate:.2f}" if counted and counted.n else ""
