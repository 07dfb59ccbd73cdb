"""Captions for pictures: embeddings, pseudo-captions and exactly true sentences."""
