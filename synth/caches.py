"""DOOR. The folder of this user's caches, for exnihilo and for the libraries under it.

It is $XDG_CACHE_HOME or ~/.cache. Users without a usable home, as in containers and cron jobs, get a folder
of their own in the temporary folder. If they have none of both, everything works without a cache.
"""

import os
import stat
import tempfile
from pathlib import Path


def provide() -> None:
    """Points this process and its children to another folder if the user's cannot be written.

    numba, torch, Hugging Face's hub, Mesa and matplotlib all follow $XDG_CACHE_HOME."""
    home, spare = _home(), None
    usual = os.environ.get("XDG_CACHE_HOME") or (home and os.path.join(home, ".cache"))
    if not usual or not can_hold(Path(usual)):
        spare = _in_temporary_folder()
        if spare is None:
            return
        os.environ["XDG_CACHE_HOME"] = str(spare)

    # matplotlib also has a folder of settings, and warns if it cannot write there.
    settings = os.environ.get("XDG_CONFIG_HOME") or (home and os.path.join(home, ".config"))
    if not settings or not can_hold(Path(settings) / "matplotlib"):
        os.environ.setdefault(
            "MPLCONFIGDIR", str(Path(os.environ.get("XDG_CACHE_HOME", str(usual))) / "matplotlib")
        )


def folder(name: str) -> Path | None:
    """Returns the folder of a cache, which may not exist yet. Returns None if the user can write no cache."""
    home = _home()
    usual = os.environ.get("XDG_CACHE_HOME") or (home and os.path.join(home, ".cache"))
    return Path(usual) / name if usual and can_hold(Path(usual)) else None


def home_holds(name: str) -> bool:
    """Returns True if ~/NAME can be written, which some libraries need whatever the variables say."""
    home = _home()
    return home is not None and can_hold(Path(home, name))


def can_hold(place: Path) -> bool:
    """Returns True if this user can make files in a folder, or can make the folder."""
    if not place.is_absolute():
        return False
    try:
        nearest = next(p for p in (place, *place.parents) if p.exists())
        return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    except OSError:
        # A folder on the way may not be searched.
        return False


def scratch_of_ray() -> str | None:
    """Returns a folder for Ray's files if its own, /tmp/ray, is another user's and closed. Else None."""
    usual = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")
    spare = None if can_hold(usual.absolute()) else _in_temporary_folder()
    return str(spare / "ray") if spare else None


def _home() -> str | None:
    """Returns the home folder if it exists. A user without $HOME and without an entry in passwd has none."""
    home = os.path.expanduser("~")
    return home if os.path.isabs(home) and os.path.isdir(home) else None


def _in_temporary_folder() -> Path | None:
    """Makes a folder of this user's own. Returns None if there is none.

    Caches hold compiled code, so the folder of another user is refused."""
    try:
        place = Path(tempfile.gettempdir(), f"exnihilo-{os.getuid()}")
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return place if private and can_hold(place) else None
