"""Samples: where they are read from, which rows do what, and what is done to them before a model sees them."""
