"""Real captioned sets as shards, one folder per set.

The package also holds shipped files, and by default all files that commands make.
"""
