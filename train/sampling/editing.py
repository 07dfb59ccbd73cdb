"""Prompt-to-prompt: pictures edited by their prompts (Hertz et al., Prompt-to-Prompt Image Editing with
Cross-Attention Control, ICLR 2023).

The source and the edit are drawn side by side from one noise. The edit takes attention maps of the source, so
the layout stays. With M a map of cross-attention, and for the first `cross` share of the steps:

    replace     M* = M_source A            A: tokens of the source -> those in their place, evenly
    refine      M*_j = M_source,a(j)       of token j with an equal one a(j); a new token keeps its own map
    re-weight   M*_j = c_j M*_j            c_j: `weights`

Maps of self-attention on at most 16 x 16 pixels are the source's for the first `itself` share. A picture that
is not drawn is inverted first. Its source branch returns to the inverted path after every step (Ju et al.,
Direct Inversion, ICLR 2024), so it ends in the picture itself.

Axes: N pairs, H heads, P pixels of a layer, S tokens of the source and of the edit, R resolution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from synth.errors import UserError
from train.model import AttentionLayer, Loaded, Walk
from train.runs import Run
from train.sampling import alignment, draw
from train.sampling.alignment import Alignment
from train.sampling.maps import Maps, maps_of, require_attention, tokeniser

_MOST_PIXELS = 16 * 16  # of a layer with injected self-attention
_BLENDED_SIDE = 16  # of the layers that decide on the background, at most
_THRESHOLD = 0.3  # of a map's maximum: the background lies below


@dataclass(frozen=True)
class Plan:
    """Settings of an edit. Shares are parts of the steps, from the first on."""

    cross: float = 0.4  # with maps of cross-attention from the source
    itself: float = 0.2  # with maps of self-attention from the source
    shares: Mapping[str, float] = field(default_factory=dict)  # `cross` of single words of the edit
    weights: Mapping[str, float] = field(default_factory=dict)  # factors on maps of words of the edit
    kind: str = "auto"  # or replace, refine
    keep_background: bool = False  # pixels outside of the maps of changed words stay the source's

    def __post_init__(self) -> None:
        if self.kind not in alignment.KINDS:
            raise UserError(f"--kind is {self.kind}; it must be {', '.join(alignment.KINDS)}")


@dataclass(frozen=True)
class Edited:
    """Pictures before and after an edit, with the maps of all tokens."""

    source: Tensor  # float32 (N, 3, R, R), about -1..1
    edit: Tensor
    alignments: list[Alignment]
    maps: Maps  # of the N sources, then of the N edits


class Editor:
    """A model of a run that edits."""

    def __init__(self, run: Run, model: Loaded, options: Mapping[str, str], device: str) -> None:
        """Takes options of drawing in their command-line form.

        Raises UserError if the model has no attention to words."""
        self.model, self.device, self._module = model, device, require_attention(run, options)
        self.tokenise, self._options = tokeniser(model), draw.options_of(model.name, options)
        self._context = draw.surroundings(model, torch.device(device), run)

    def noise(self, numbers: Sequence[int], seed: int) -> Tensor:
        """Returns the noise of pictures by number, as `sample` has it."""
        start: Tensor = self._module.start(self.model.config, numbers, seed)
        return start.to(self.device)

    def drawn(self, noise: Tensor, prompts: Sequence[str]) -> Tensor:
        """Returns the pictures (N, 3, R, R) of noise under prompts, without an edit."""
        texts = draw.texts_of(self.model, prompts, None, self.device)
        with torch.no_grad():
            pictures: Tensor = self._module.draw(self.model.parts, noise, texts, self._options, self._context)
        return pictures

    @torch.no_grad()
    def inverted(self, pictures: Tensor, prompts: Sequence[str], maps: Maps | None = None) -> list[Tensor]:
        """Returns the path from noise to pictures (N, 3, R, R) under prompts: one more than the steps.

        `maps` receives the weights of attention on the way up. Raises UserError if the model draws latents,
        or if there is one step alone."""
        if self.noise([0], 0).shape[1:] != pictures.shape[1:]:
            raise UserError("this run draws latents, and a picture is none; give a run without model.latents")
        walk = self._walk(prompts, pictures.shape[1:], 0)
        if walk.steps < 2:
            problem = f"steps is {walk.steps}, which leaves no way from a picture to its noise"
            raise UserError(f"{problem}; give --steps 2 or more")
        path = [pictures]
        with self._module.attention(self.model.parts, maps or _unchanged):
            for step in reversed(range(walk.steps)):
                path.append(walk.up(path[-1], step))
        return path[::-1]

    def from_path(self, path: Sequence[Tensor], prompts: Sequence[str]) -> Tensor:
        """Returns the pictures of an inverted path's noise under prompts, without an edit."""
        return self._down(path[0], self._walk(prompts, path[0].shape[1:], 0))

    def edited(
        self,
        sources: Sequence[str],
        edits: Sequence[str],
        plans: Plan | Sequence[Plan],
        *,
        noise: Tensor | None = None,
        path: Sequence[Tensor] = (),
    ) -> Edited:
        """Returns the edits of pictures: those drawn from `noise`, or those of an inverted `path`.

        Plans may differ in their words: kind, shares of words, and weights. All else is that of the first.
        Raises UserError if two prompts do not align, or a word of the plan is in no edit."""
        # Words.
        plans = [plans] * len(sources) if isinstance(plans, Plan) else plans
        alignments = list(map(self.aligned, sources, edits, plans))
        maps = maps_of(self.tokens([*sources, *edits]))
        injection = _Injection(alignments, plans, maps)

        # Both branches, step by step.
        start = path[0] if path else noise
        assert start is not None
        n = len(alignments)
        walk = self._walk([*sources, *edits], start.shape[1:], n if path else 0)
        y = torch.cat([start, start]) if path else walk.begun(torch.cat([start, start]))
        with torch.no_grad(), self._module.attention(self.model.parts, injection):
            for step in range(walk.steps):
                injection.progress = step / walk.steps
                source, edit = walk.down(y, step).split(n)
                if path:
                    source = path[step + 1]
                if plans[0].keep_background:
                    edit = torch.where(injection.changed(edit.shape[-1]), edit, source)
                y = torch.cat([source, edit])
            source, edit = walk.pictures(y).split(n)
        return Edited(source, edit, alignments, maps)

    def tokens(self, prompts: Sequence[str]) -> Tensor | None:
        """Returns the tokens (N, T) of prompts."""
        return draw.texts_of(self.model, prompts, None, self.device).tokens

    def aligned(self, source: str, edit: str, plan: Plan) -> Alignment:
        """Returns the alignment of two prompts.

        Raises UserError if they do not align, or a word of the plan is not in the edit."""
        before, after = (alignment.worded(self.tokenise, text) for text in (source, edit))
        known = {word.text for word in after}
        for option, values in (("--weight", plan.weights), ("--share", plan.shares)):
            for word in values:
                if word not in known:
                    problem = f"{option} names {word!r}, which is no word of the edited prompt"
                    raise UserError(f"{problem}; its words are {', '.join(sorted(known))}")
        return alignment.aligned(before, after, plan.kind)

    def _walk(self, prompts: Sequence[str], shape: torch.Size, unguided: int) -> Walk:
        texts = draw.texts_of(self.model, prompts, None, self.device)
        walk: Walk = self._module.walk(
            self.model.parts, shape, texts, self._options, self._context, unguided=unguided
        )
        return walk

    @torch.no_grad()
    def _down(self, y: Tensor, walk: Walk) -> Tensor:
        for step in range(walk.steps):
            y = walk.down(y, step)
        return walk.pictures(y)


def changed(alignment_: Alignment, plan: Plan) -> tuple[list[int], list[int]]:
    """Returns the numbers of the words that an edit changes: of the source, and of the edit with weights."""
    source = [number for run in alignment_.runs for number in run.source]
    edit = {number for run in alignment_.runs for number in run.edit}
    edit |= {number for number, word in enumerate(alignment_.edit) if word.text in plan.weights}
    return source, sorted(edit)


def changed_pixels(heat: Tensor, side: int) -> Tensor:
    """Returns the pixels of changed words, bool (N, 1, side, side), by their maps (2 N, 1, S, S): of N
    sources, then of their edits."""
    # Spread by a pixel of the map, enlarged, and cut at a share of the maximum.
    spread = functional.max_pool2d(heat, 3, stride=1, padding=1)
    spread = functional.interpolate(spread, (side, side), mode="bilinear")
    most = spread.amax(dim=(2, 3), keepdim=True)
    source, edit = ((spread > _THRESHOLD * most) & (most > 0)).chunk(2)
    return source | edit


class _Injection:
    """The Control of an edit. Rows are N sources, N edits, and maybe predictions without the texts."""

    def __init__(self, alignments: Sequence[Alignment], plans: Sequence[Plan], maps: Maps) -> None:
        n, tokens = len(alignments), maps.tokens
        self.progress, self._itself, self._maps, self._n = 0.0, plans[0].itself, maps, n
        self._links = torch.zeros(n, 1, tokens, tokens)  # A
        self._linked = torch.zeros(n, 1, 1, tokens, dtype=torch.bool)
        self._shares = torch.full((n, 1, 1, tokens), plans[0].cross)
        self._factors = torch.ones(n, 1, 1, tokens)
        self._chosen = torch.zeros(2 * n, tokens)  # tokens of changed words
        for i, (pair, plan) in enumerate(zip(alignments, plans, strict=True)):
            # Maps of the source by token of the edit. The first token begins each text.
            for ones, others in [((0,), (0,)), *pair.links]:
                for one in ones:
                    for other in others:
                        self._links[i, 0, one, other] = 1 / len(others)
                        self._linked[i, 0, 0, other] = True

            # Words.
            for word in pair.edit:
                self._shares[i, 0, 0, list(word.columns)] = plan.shares.get(word.text, plan.cross)
                self._factors[i, 0, 0, list(word.columns)] = plan.weights.get(word.text, 1.0)
            for row, words, numbers in zip(
                (i, n + i), (pair.source, pair.edit), changed(pair, plan), strict=True
            ):
                self._chosen[row, list(alignment.columns(words, numbers))] = 1.0

    def __call__(self, weights: Tensor, layer: AttentionLayer) -> Tensor:
        source, edit, rest = weights[: self._n], weights[self._n : 2 * self._n], weights[2 * self._n :]
        if layer.crosses:
            edit = self._crossed(source, edit)
        elif self.progress < self._itself and weights.shape[2] <= _MOST_PIXELS:
            edit = source
        changed = torch.cat([source, edit, rest])
        self._maps(changed, layer)
        return changed

    def _crossed(self, source: Tensor, edit: Tensor) -> Tensor:
        """Returns the edit's maps (N, H, P, S) with those of the source in them."""
        acts = self._shares.to(edit.device) > self.progress
        moved = source @ self._links.to(source)
        edit = torch.where(acts & self._linked.to(edit.device), moved, edit)
        return torch.where(acts, edit * self._factors.to(edit), edit)

    def changed(self, side: int) -> Tensor:
        """Returns the pixels of changed words, bool (N, 1, side, side), by the maps until now."""
        finest = max((s for s in self._maps.sums if s <= _BLENDED_SIDE), default=min(self._maps.sums))
        maps = self._maps.at(finest)
        # Weights may be negative.
        heat = (maps.abs() * self._chosen.to(maps)[:, :, None, None]).sum(dim=1, keepdim=True)
        return changed_pixels(heat, side)


def _unchanged(weights: Tensor, layer: Any) -> Tensor:
    return weights
