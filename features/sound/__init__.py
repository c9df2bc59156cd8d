"""Decodes sound and computes its embedding and spectrogram."""
