"""Real captioned sets as shards, one folder a set; beside them what is shipped and what commands make."""
