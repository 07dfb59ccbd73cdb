"""Drawing step by step, down from noise to pictures and up again, for code that acts between the steps.

Step k of K goes from level k to level k + 1, the last one to level 0. The way up inverts the ODE of the
denoiser without guidance, because guidance magnifies the error (Mokady et al., CVPR 2023). The last step
has no inverse: a picture counts as one at the lowest level above 0.

Axes: N pictures, K levels without the 0, C planes, S side.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from train.models import samplers


@dataclass(frozen=True)
class OdeWalk:
    """A train.model.Walk along the probability-flow ODE."""

    levels: tuple[float, ...]  # (K + 1,), in descending order, 0 last
    guided: samplers.Denoise
    plain: samplers.Denoise
    heun: bool
    decode: Callable[[Tensor], Tensor]

    @property
    def steps(self) -> int:
        """The number of steps K."""
        return len(self.levels) - 1

    def begun(self, start: Tensor) -> Tensor:
        """Returns noised pictures (N, C, S, S) at level 0 from the noise of `start`."""
        return start * self.levels[0]

    def down(self, y: Tensor, step: int) -> Tensor:
        """Returns noised pictures (N, C, S, S) after a step, from those before it."""
        return samplers.step(self.guided, y, self.levels[step], self.levels[step + 1], heun=self.heun)

    def up(self, y: Tensor, step: int) -> Tensor:
        """Returns noised pictures (N, C, S, S) before a step, from those after it."""
        now, then = self.levels[step + 1], self.levels[step]
        return samplers.step(self.plain, y, now, then, heun=self.heun) if now > 0 else y

    def pictures(self, y: Tensor) -> Tensor:
        """Returns the pictures (N, 3, R, R) of what the last step gives."""
        return self.decode(y)
