"""DOOR. Pixels, and the files that hold them."""
