"""`paper-coco`: the paper's tables 1 to 3 on MSCOCO, at full size. Its files are expected in ~/coco."""

from evaluate.experiments import paper

EXPERIMENT = paper.experiment("coco", "~/coco", "val", hours=10, gigabytes=5)
