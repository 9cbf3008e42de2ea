"""Requirements of what travels over HTTP."""
