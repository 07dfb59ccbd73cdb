"""Pictures of a generator with their captions under them, as one PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from train.models.latents import draw_latents
from train.models.stylegan2 import Generator

_USE = 4  # of random numbers: pictures to look at
_MEAN = 5  # and the mean latent
_MEAN_OF = 4096  # latents
_TEXT, _GAP = 12, 8  # pixels
_AT_ONCE = 16


@torch.no_grad()
def generate(generator: Generator, texts: torch.Tensor, *, seed: int, truncation: float = 1.0) -> np.ndarray:
    """Pictures uint8 (N, R, R, 3) of embeddings (N, D), with latents that the seed gives; a truncation below 1 draws latents towards
    their mean (Karras et al., StyleGAN, CVPR 2019, appendix B)."""
    config, device = generator.config, texts.device
    mean = _mean_latent(generator, seed, str(device)) if truncation < 1 else None
    made = []
    for start in range(0, len(texts), _AT_ONCE):
        h = texts[start : start + _AT_ONCE]
        latents = draw_latents(config, seed, _USE, range(start, start + len(h)), mixing=0.0, device=str(device))
        ws = generator.latents(latents.z[:, 0])
        images = generator.synthesise(ws if mean is None else mean.lerp(ws, truncation), h, noise=latents.noise)
        made.append(((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(made)


def captioned(pictures: np.ndarray, captions: Sequence[str], *, columns: int = 4, least: int = 128) -> Image.Image:
    """A grid of pictures (N, R, R, 3), small ones enlarged by whole numbers, each with its caption under it."""
    side = pictures.shape[1] * max(1, -(-least // pictures.shape[1]))
    font = ImageFont.load_default(_TEXT)
    lines = [_wrapped(text, font, side) for text in captions]
    columns = min(columns, len(pictures))
    rows = [range(i, min(i + columns, len(pictures))) for i in range(0, len(pictures), columns)]
    heights = [side + (2 + max(len(lines[i]) for i in row)) * round(1.25 * _TEXT) for row in rows]
    sheet = Image.new("RGB", (columns * (side + _GAP) + _GAP, sum(heights) + _GAP), "white")
    draw, top = ImageDraw.Draw(sheet), _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = _GAP + column * (side + _GAP)
            sheet.paste(Image.fromarray(pictures[i]).resize((side, side), Image.Resampling.NEAREST), (left, top))
            draw.multiline_text((left, top + side + 3), "\n".join(lines[i]), fill="#333333", font=font, spacing=2)
        top += height
    return sheet


def save(path: Path, sheet: Image.Image) -> None:
    """Writes a PNG, whole or not at all."""
    data = io.BytesIO()
    sheet.save(data, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data.getvalue())
    part.replace(path)


def _mean_latent(generator: Generator, seed: int, device: str) -> torch.Tensor:
    """The mean w, (1, 1, W)."""
    z = torch.randn(_MEAN_OF, generator.config.z_dim, generator=torch.Generator(device).manual_seed(seed + _MEAN), device=device)
    return generator.mapping(z).mean(dim=0)[None, None]


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of at most so many pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
