"""Requirements of what is sent to people."""
