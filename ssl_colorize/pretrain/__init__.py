"""Pretraining: recipe, targets, objective, loop, checkpoints."""
