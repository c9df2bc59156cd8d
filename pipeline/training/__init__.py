"""Trains and evaluates a run: confounders, dataset, teacher and student, evaluation, gate."""
