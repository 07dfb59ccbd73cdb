"""`paper-celeba-hq`: the paper's tables 1 to 3 on CelebA-HQ, with its files in ~/celeba-hq."""

from evaluate.experiments import paper

EXPERIMENT = paper.experiment("celeba_hq", "~/celeba-hq", "test", hours=5, gigabytes=4)
