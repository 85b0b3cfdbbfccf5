"""How good predicted colours are: methods, measures, and the stream of photos between them."""
