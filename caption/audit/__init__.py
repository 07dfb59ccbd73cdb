"""What captions look like before anybody trains on them."""
