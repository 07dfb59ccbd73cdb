"""System packages that pip cannot install: Mesa's EGL for shaders, a colour font for emoji."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

from synth.errors import UserError

PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "shaders": ("libegl1", "libgl1", "libgl1-mesa-dri"),
        "emoji": ("fonts-noto-color-emoji", "libfribidi0"),
    }
)

# Commands that end well if the packages are there.
_CHECKS = {
    "shaders": "from synth.glsl import checkup; checkup.examine('software')",
    "emoji": "from data.emoji import font; font.find(None)",
}


def install(name: str) -> str | None:
    """Installs the packages of a use by apt-get if they are missing.

    Returns a sentence, or None if nothing is missing. Raises UserError if the use is unknown."""
    if name not in PACKAGES:
        raise UserError(f"unknown packages {name!r}; --install takes {' or '.join(PACKAGES)}")
    if _works(name):
        return None

    # Only root can install. Another user gets the command to pass on.
    packages = " ".join(PACKAGES[name])
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = ["apt-get", "-qq"]
        _run([*quiet, "update"])
        _run([*quiet, "install", "-y", "--no-install-recommends", *PACKAGES[name]])
        if _works(name):
            return f"installed {packages}"
    return f"note: {name} need system packages; as root: apt-get install {packages}"


def _works(name: str) -> bool:
    return _run([sys.executable, "-c", _CHECKS[name]]) == 0


def _run(command: list[str]) -> int:
    """Runs a command silently. Returns its exit code."""
    nothing = subprocess.DEVNULL
    return subprocess.run(command, stdout=nothing, stderr=nothing, check=False).returncode
