"""Speed: the hot path against its plain twins."""
