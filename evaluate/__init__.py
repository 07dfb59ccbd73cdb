"""Numbers and pictures from run directories: what a model learned, in figures that can be compared."""
