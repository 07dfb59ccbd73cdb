"""caption: captions for pictures, with the embeddings for text-to-image models; torch for inference only."""
