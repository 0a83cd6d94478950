"""From a plan and ranges to a graph in a runtime's dialect."""
