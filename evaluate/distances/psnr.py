"""Peak signal-to-noise ratio."""

import numpy as np

_ROUNDING = 1 / 12  # least squared error of a level


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the PSNR in dB of levels uint8 of one shape, at most that of rounding, 58.9."""
    error = float(((one.astype(float) - other) ** 2).mean())
    return float(10 * np.log10(255**2 / max(error, _ROUNDING)))
