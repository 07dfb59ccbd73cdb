"""Pictures from formulas, rendered into WebDataset shards. The package needs numpy and numba. It never
imports torch.
"""
