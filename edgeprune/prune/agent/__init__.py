"""Pruning by an agent: at points of a training it walks the layers and says what goes from each."""
