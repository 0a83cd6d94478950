"""Fitting weights to samples, and scoring samples with them."""
