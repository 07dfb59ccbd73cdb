"""The four stages once through, at a size for a laptop, and a page with the results."""
