"""Pictures from formulas, rendered into WebDataset shards. The package needs numpy and numba. It never
imports torch.
"""

from synth import caches

# Before any library is imported that looks for its cache.
caches.provide()
