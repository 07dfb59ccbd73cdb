"""Networks of models that learn features: backbones, texts beside them, and names of other programs."""
