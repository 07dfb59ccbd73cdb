"""DOOR. Texts -> pictures."""
