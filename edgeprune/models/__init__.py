"""The architectures that have a name, and the way in for those of the user."""
