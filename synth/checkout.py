"""DOOR. The folder of this checkout.

Child processes and clusters import the packages from it. Shipped files are in its data/.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
