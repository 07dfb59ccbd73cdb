"""DOOR. The commit protocol of every stage, and the shards that it protects."""
