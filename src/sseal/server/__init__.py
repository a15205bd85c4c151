"""Running the hub alone."""
