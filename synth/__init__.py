"""Pictures from formulas, rendered into WebDataset shards. Needs numpy and numba; never imports torch."""
