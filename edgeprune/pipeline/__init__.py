"""From a recipe and a target to a measured bundle: the one place where all stages meet."""
