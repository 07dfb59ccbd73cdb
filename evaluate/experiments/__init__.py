"""Experiments: arms of ordinary commands, and their results."""
