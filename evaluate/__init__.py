"""Metrics and pictures from run directories, with the terms that make figures comparable."""
