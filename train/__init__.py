"""Models from shards and caption tables."""
