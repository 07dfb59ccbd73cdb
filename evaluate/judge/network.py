"""The network of the judge: objects as points (CenterNet, arXiv:1904.07850), on a grid of 16 x 16 cells.

Pictures of 32 and of 64 pixels have a stem each, so that an object covers the same cells at both. The trunk
is a small U-Net of residual blocks. A heat map marks the centroids of objects. A second one marks those of
objects inside others, as two centroids may fall into one cell. An object's query finds the cells that show
it. Its words come from the features at its centroid and the means over these cells, depth and inclusion of
two objects from the features of both.

Axes: N pictures, S side in pixels, G = 16 cells, W width, K keys, B objects of all pictures, P ordered pairs.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from synth.families.scene_world import KINDS, PALETTE, SIZES
from synth.families.scenes import BACKDROPS as TEXTURES
from synth.families.scenes import Config

GRID = 16  # G
SIDES = (32, 64)  # S
WIDTHS = (64, 96, 80)  # W at 16, 8 and 4 cells

KIND_WORDS = (*KINDS, "text")
COLOUR_WORDS = tuple(PALETTE)
SIZE_WORDS = tuple(SIZES)
FILLING_WORDS = Config().fillings
DEPTHS = ("", "in front of", "behind", "inside", "contains")
POINTS = (4, 5, 6, 7)

# Words of an object, and their numbers of choices.
WORDS = {
    "kind": len(KIND_WORDS),
    "colour": len(COLOUR_WORDS),
    "size": len(SIZE_WORDS),
    "filling": len(FILLING_WORDS),
    "second": len(COLOUR_WORDS),
    "points": len(POINTS),
}
_PLACE = 6  # offset from the cell's centre, and the box about the centroid
_HIDDEN = 128
_KEYS = 32  # K
_VALUES = 64
_SOFTNESS = 25.0  # levels, of the membership of a pixel in a colour word


class Outputs(NamedTuple):
    """Outputs of the trunk."""

    heat: Tensor  # (N, 2, G, G) logits: objects, and objects inside others
    features: Tensor  # (N, W, G, G), those of 8 cells behind those of 16
    backdrop: Tensor  # (N, 11) logits
    texture: Tensor  # (N, 3) logits
    keys: Tensor  # (N, K, G, G), of the cells that show an object
    values: Tensor  # (N, 64 + 14, G, G), with the cells' mean membership in colour words and mean tones


class Block(nn.Module):
    """A residual block of two 3 x 3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, width), _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(functional.relu(self.first(x))))


class Judge(nn.Module):
    """The network, from the levels of pictures (N, S, S, 3) to Outputs."""

    palette: Tensor

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        channels = 4 * (3 + len(COLOUR_WORDS) + 3)
        wide = fine + middle
        self.stem_32 = _convolution(channels, fine)
        self.stem_64 = nn.ModuleList([_convolution(channels, 24), _convolution(96, fine)])
        self.down_16, self.down_8 = Block(fine), Block(middle)
        self.to_8, self.to_4 = _convolution(fine, middle, 2), _convolution(middle, coarse, 2)
        self.bottom = Block(coarse)
        self.from_4, self.from_8 = nn.Conv2d(coarse, middle, 1), nn.Conv2d(middle, fine, 1)
        self.up_8, self.up_16 = Block(middle), Block(fine)
        self.heat = nn.Conv2d(fine, 2, 1)
        self.whole = nn.Linear(fine + coarse, len(COLOUR_WORDS) + len(TEXTURES))
        self.query, self.key = nn.Linear(wide + 2, _KEYS), nn.Conv2d(wide, _KEYS, 1)
        self.reach = nn.Parameter(torch.tensor([-1.0, 0.15]))
        self.value = nn.Conv2d(wide, _VALUES, 1)
        wide += _VALUES + len(COLOUR_WORDS) + 3
        self.thing = nn.Sequential(
            nn.Linear(wide + 2, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, sum(WORDS.values()) + _PLACE)
        )
        self.pair = nn.Sequential(
            nn.Linear(2 * (wide + 2) + 2, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, len(DEPTHS))
        )
        self.heat.bias = nn.Parameter(torch.full((2,), -4.0))
        palette = torch.tensor(list(PALETTE.values()), dtype=torch.float32)
        self.register_buffer("palette", palette, persistent=False)

    def stem(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the cells of pictures of one side (N, W, G, G), and their colours (N, 14, G, G)."""
        levels = pixels.float().permute(0, 3, 1, 2).contiguous()  # (N, 3, S, S)
        words = self.membership(levels)
        tones = (levels - functional.conv2d(words, self.palette.T[:, :, None, None])) / 16
        colours = functional.avg_pool2d(torch.cat([words, tones], 1), pixels.shape[1] // GRID)
        x = functional.pixel_unshuffle(torch.cat([levels / 127.5 - 1, words, tones], 1), 2)
        if pixels.shape[1] == SIDES[0]:
            return functional.relu(self.stem_32(x)), colours
        first, second = self.stem_64
        return functional.relu(second(functional.pixel_unshuffle(functional.relu(first(x)), 2))), colours

    @torch.no_grad()
    def membership(self, levels: Tensor) -> Tensor:
        """Returns how much pixels (N, 3, S, S) belong to each colour word, by distance: (N, 11, S, S)."""
        # The square of the pixel itself is the same for all words.
        squares = self.palette.square().sum(1)
        with torch.autocast("cpu", enabled=False):
            products = functional.conv2d(levels, self.palette[:, :, None, None]) - squares.view(-1, 1, 1) / 2
            return torch.softmax(products / _SOFTNESS**2, 1)

    def forward(self, cells: Tensor, colours: Tensor) -> Outputs:
        """Returns the Outputs of the cells of pictures, maybe of several sides, and of their colours."""
        fine = self.down_16(cells)
        middle = self.down_8(functional.relu(self.to_8(fine)))
        coarse = self.bottom(functional.relu(self.to_4(middle)))
        middle = self.up_8(middle + functional.interpolate(self.from_4(coarse), scale_factor=2.0))
        x = self.up_16(fine + functional.interpolate(self.from_8(middle), scale_factor=2.0))
        whole = self.whole(torch.cat([x.mean((2, 3)), coarse.mean((2, 3))], 1))
        backdrop, texture = whole.split([len(COLOUR_WORDS), len(TEXTURES)], 1)
        features = torch.cat([x, functional.interpolate(middle, scale_factor=2.0)], 1)
        values = torch.cat([self.value(features), colours], 1)
        return Outputs(self.heat(x), features, backdrop, texture, self.key(features), values)

    def masks(self, outputs: Outputs, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits of the cells that show each object (B, G, G), and the objects' features.

        `cells` (B, 4) are picture, heat map, row and column. The features are those at the object's cell, and
        the means over the cells that show it."""
        picture, level, row, column = cells.unbind(1)
        levels = functional.one_hot(level, 2).to(outputs.features)
        centre = torch.cat([outputs.features[picture, :, row, column], levels], 1)
        places = torch.arange(GRID)
        squares = (places[:, None] - row[:, None, None]) ** 2 + (places - column[:, None, None]) ** 2
        products = torch.einsum("bk,bkij->bij", self.query(centre), outputs.keys[picture])
        logits = products / _KEYS**0.5 - self.reach[0] - self.reach[1] * squares
        shares = torch.sigmoid(logits)
        shares = shares / (shares.sum((1, 2), keepdim=True) + 0.1)
        means = torch.einsum("bij,bcij->bc", shares, outputs.values[picture])
        return logits, torch.cat([centre, means], 1)

    def things(self, features: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the logits of each word (B, choices), and offsets and boxes (B, 6), of objects."""
        parts = self.thing(features).split([*WORDS.values(), _PLACE], 1)
        return dict(zip(WORDS, parts[:-1], strict=True)), parts[-1]

    def depths(self, features: Tensor, cells: Tensor, pairs: Tensor) -> Tensor:
        """Returns the logits of DEPTHS for pairs of objects (P, 2): (P, 5)."""
        first, second = pairs.unbind(1)
        way = (cells[first] - cells[second])[:, 2:].to(features) / 4
        logits: Tensor = self.pair(torch.cat([features[first], features[second], way], 1))
        return logits


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after))
