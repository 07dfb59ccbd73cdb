"""Real captioned sets as shards, one folder a set. The package also holds shipped files, and files that
commands make.
"""
