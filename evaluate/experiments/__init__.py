"""Experiments: arms of ordinary commands, and what they show."""
