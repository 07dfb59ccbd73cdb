"""Trying programs before they are numbered."""
