"""Measures of captions before anybody trains on them."""
