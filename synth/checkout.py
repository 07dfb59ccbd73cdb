"""DOOR. The folder of this checkout: child processes and clusters import the packages from it, shipped files are in its data/."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
