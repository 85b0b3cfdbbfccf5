"""How good predicted colors are: methods, measures, and the stream of photos between them."""
