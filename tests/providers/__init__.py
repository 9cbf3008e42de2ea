"""Requirements of what talks to the upstreams."""
