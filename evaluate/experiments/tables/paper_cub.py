"""`paper-cub`: the paper's tables 1 to 3 on CUB, at full size. Its files are expected in ~/birds."""

from evaluate.experiments import paper

EXPERIMENT = paper.experiment("cub", "~/birds", "test", hours=5, gigabytes=4)
