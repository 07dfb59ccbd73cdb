"""The four stages once through, at a size for a laptop, and a page that shows what came of it."""
