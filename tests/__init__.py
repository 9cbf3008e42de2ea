"""What the product promises, one requirement a test."""
