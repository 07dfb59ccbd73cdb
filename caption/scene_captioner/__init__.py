"""The captioner that exnihilo fits itself, to scenes and their sentences."""
