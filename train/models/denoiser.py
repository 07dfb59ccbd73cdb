"""The denoiser of diffusion.py: a U-Net, its texts, and the law of noise that it is trained for.

Axes: N samples, K planes of a picture or latent, S their side, L text states, D their width.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from synth import settings
from train.model import MOST_SIZE
from train.models.formulations import FORMULATIONS, Coefficients, coefficients, column, ddpm_levels
from train.models.tower import Tower
from train.models.unet import Attention, UNet, heads_of
from train.models.words import TextStates, TowerStates

WORDS = ("own", "tower")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the networks."""

    resolution: int = 32
    channels: tuple[int, ...] = (32, 48, 64, 96)  # by level; each level has half the side of the one before
    reads: tuple[int, ...] = (4, 8, 16)  # sides of the levels with cross-attention
    itself: tuple[int, ...] = (4, 8)  # of these, the ones with self-attention
    embedding: int = 128  # of the noise level
    text_width: int = 96  # D
    text_layers: int = 1
    text_dim: int = 128  # V; follows the caption tables
    prefix: int = 4  # states of a vector
    tokens: int = 64  # of a text, at most
    latents: str = ""  # RUN of an autoencoder, or a folder of diffusers; empty: no latents, but pixels
    factor: int = 1  # the side of a picture over the side of its latent
    planes: int = 3  # K, of latents or colours
    blocks: int = 1  # of a level, each way
    positions: bool = True  # of pixels, for layers that read texts, and sharper first attention
    words: str = "own"  # or tower: token states of the captions' encoder, frozen

    def __post_init__(self) -> None:
        if min(self.factor, self.planes) < 1 or self.resolution % self.factor:
            raise ValueError("factor must divide resolution, and planes must be at least 1")
        if not self.latents and (self.factor, self.planes) != (1, 3):
            raise ValueError("without latents, factor must be 1 and planes must be 3")
        sides = [self.side >> level for level in range(len(self.channels))]
        unit = self.factor << len(self.channels) - 1
        if self.resolution % unit:
            reason = f"as {len(self.channels)} levels halve it" + (" after factor" if self.latents else "")
            raise ValueError(f"resolution is {self.resolution}; it must be a multiple of {unit}, {reason}")
        for name, allowed in (("reads", sides), ("itself", self.reads)):
            if not set(getattr(self, name)) <= set(allowed):
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it may have {', '.join(map(str, allowed))}"
                )
        if self.words not in WORDS:
            raise ValueError(f"words is {self.words}; it must be {' or '.join(WORDS)}")
        widths = ("resolution", "planes", "blocks", "embedding", "text_width", "text_dim", "prefix", "tokens")
        settings.require_within(self, 1, MOST_SIZE, *widths)
        settings.require_within(self, 0, MOST_SIZE, "text_layers")
        if not heads_of(self.text_width):
            raise ValueError(f"text_width is {self.text_width}; from 64 on, it must be a multiple of 32")
        if min(self.channels) < 32 or any(c % 16 for c in self.channels):
            raise ValueError(f"channels is {self.channels}; each must be a multiple of 16, 32 or more")
        reading = [c for c, side in zip(self.channels, sides, strict=True) if side in self.reads]
        if max(self.channels) > MOST_SIZE or not all(map(heads_of, reading)):
            raise ValueError(f"channels is {self.channels}; levels in reads need multiples of 32 from 64 on")

    @property
    def side(self) -> int:
        """The side of what the denoiser reads: a latent, or a picture."""
        return self.resolution // self.factor


@dataclass(frozen=True)
class Noise:
    """Noise levels and formulation."""

    formulation: str = "flow"  # or edm, ddpm
    mean: float = 0.5  # of ln sigma in training; ddpm has levels of its own
    deviation: float = 1.2  # the same
    least: float = 0.02  # levels of drawing
    most: float = 40.0

    def __post_init__(self) -> None:
        if self.formulation not in FORMULATIONS:
            raise ValueError(f"formulation is {self.formulation}; it must be {', '.join(FORMULATIONS)}")
        if not 0 < self.least < self.most:
            raise ValueError(f"least is {self.least}; it must be above 0 and below most = {self.most}")
        settings.require_within(self, -20, 20, "mean")
        if not 0 < self.deviation <= 10:
            raise ValueError(f"deviation is {self.deviation}; it must be above 0 and at most 10")

        # Levels of drawing are among those of training, which ddpm fixes.
        if self.formulation == "ddpm":
            low, *_, high = ddpm_levels().tolist()
            if not (self.least < high and self.most > low):
                problem = f"least is {self.least} and most is {self.most}"
                allowed = f"least must be below {high:.4g} and most above {low:.4g}"
                raise ValueError(f"{problem}; with ddpm, {allowed}")


class Denoiser(nn.Module):
    """The U-Net with its texts, and the law of noise that it is trained for."""

    def __init__(
        self, sizes: Sizes, noise: Noise, words: int, sigma_data: float, tower: int | None = None
    ) -> None:
        super().__init__()
        self.noise, self.sigma_data = noise, sigma_data
        vectors = {"dimensions": sizes.text_dim, "prefix": sizes.prefix}
        self.text: TextStates | TowerStates
        if tower is None:
            layers, most = sizes.text_layers, sizes.tokens
            self.text = TextStates(words, sizes.text_width, layers=layers, most=most, **vectors)
        else:
            self.text = TowerStates(tower, sizes.text_width, **vectors)
        self.unet = UNet(
            sizes.channels,
            sizes.side,
            sizes.text_width,
            planes=sizes.planes,
            embedding=sizes.embedding,
            reads=sizes.reads,
            itself=sizes.itself,
            blocks=sizes.blocks,
            positions=sizes.positions,
        )
        if sizes.positions:
            for module in self.modules():
                if isinstance(module, Attention):
                    module.sharpen()

    def forward(self, y: Tensor, sigma: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Returns the network's output F (N, K, S, S) for noised pictures y of levels sigma (N,), and text
        states (N, L, D) with their presence."""
        c = self.coefficients(sigma)
        return self.unet(column(c.c_in) * y, c.c_noise, context, present).to(y.dtype)

    def states(
        self, tokens: Tensor, vectors: Tensor | None, given: Tensor | None, tower: Tower | None
    ) -> tuple[Tensor, Tensor]:
        """Returns text states (N, L, D) and their presence, from the tower's token states if there is one."""
        if isinstance(self.text, TextStates):
            return self.text(tokens, vectors, given)
        assert tower is not None
        return self.text(tokens, vectors, given, tower(tokens))

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Returns the coefficients of noise levels (N,)."""
        return coefficients(self.noise.formulation, sigma, self.sigma_data)

    def errors(self, output: Tensor, x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """Returns the mean squared error (N,) of the network's output F for noised pictures y of x."""
        c = self.coefficients(sigma)
        target = (x - column(c.c_skip) * y) / column(c.c_out)
        return (output - target).square().mean(dim=(1, 2, 3))

    def denoised(self, y: Tensor, sigma: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Returns the denoised pictures or latents (N, K, S, S): D of equation 7 in formulations.py.

        Arguments are those of `forward`."""
        c = self.coefficients(sigma)
        return column(c.c_skip) * y + column(c.c_out) * self(y, sigma, context, present)
