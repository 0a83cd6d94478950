"""From real samples and a plan to a graph with Q/DQ pairs in each runtime's dialect."""
