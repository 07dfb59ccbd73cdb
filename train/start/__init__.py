"""The start of a run: a request, its checked inputs, and the training."""
