"""Compiled code that families share."""
