"""Shards and caption tables -> batches."""
