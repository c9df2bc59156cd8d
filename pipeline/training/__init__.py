"""Confounders, dataset, training, evaluation, and the gate."""
