"""Pretraining: recipe, pretext, statistics of the photos, start, loop, figures on held-out photos."""
