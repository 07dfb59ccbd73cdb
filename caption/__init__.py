"""caption: captions for pictures, with the embeddings that a text-to-image model is trained on; torch for inference only."""
