"""What `make run` does before the first request: set-up, build, and the bundle it serves."""
