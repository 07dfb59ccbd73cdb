"""The commands of data: one for each set, which reads the files as their owners distribute them."""

from data.celeba_hq import prepare as celeba_hq
from data.cifar10 import prepare as cifar10
from data.coco import prepare as coco
from data.cub import prepare as cub
from data.emoji import prepare as emoji
from data.folder import prepare as folder
from data.img2dataset import prepare as img2dataset
from synth import console

PROGRAM = "python -m data"

app = console.app(
    "Prepares real captioned sets as WebDataset shards.", "python -m data coco --root ~/coco --size 256"
)
for name, module in {
    "coco": coco,
    "cub": cub,
    "celeba_hq": celeba_hq,
    "cifar10": cifar10,
    "emoji": emoji,
    "folder": folder,
    "img2dataset": img2dataset,
}.items():
    app.command(name, epilog=console.epilog(module.EXAMPLE))(module.main)


def main() -> None:
    """Runs `python -m data`."""
    console.run(app, PROGRAM)
