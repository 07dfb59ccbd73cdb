"""Distances of sets of features, and scores of pictures: mathematics on arrays, without runs or files."""
