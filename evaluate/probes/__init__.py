"""Probes: accuracies of classifiers on learned features, and of names alone."""
