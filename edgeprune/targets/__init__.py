"""Device types: what is known of each, as data."""
