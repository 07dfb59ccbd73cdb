"""The models, one file each, and the layers and random numbers that they share."""
