"""DOOR. One law per file: what pictures a family has, by parameters that follow from a seed and an index."""
