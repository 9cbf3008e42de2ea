"""The dashboard, held to its requirements over its own socket and in a real browser."""
