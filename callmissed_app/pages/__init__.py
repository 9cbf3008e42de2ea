"""What the pages look like: one module each, named as its state, inside `layout.page`."""
