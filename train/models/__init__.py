"""One file a model, and what two or more of them share."""
