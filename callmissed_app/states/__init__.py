"""What the pages show and do: a small state each, guarded handlers, plain values for the screen."""
