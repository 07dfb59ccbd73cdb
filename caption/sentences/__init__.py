"""DOOR. Facts of a picture <-> sentences that are exactly true of it."""
