"""The judge: the objects that a picture of a scene shows, the facts of a prompt that it has, and how often
the judge itself is wrong."""
