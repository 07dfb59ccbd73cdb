"""DOOR. The folder of this checkout.

Child processes and clusters import the packages from it. Shipped files are in its data/.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def commit() -> str | None:
    """Returns the commit of this checkout, or None if it has none or git is missing."""
    try:
        command = ["git", "rev-parse", "HEAD"]
        git = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        return None
    return git.stdout.strip() or None
