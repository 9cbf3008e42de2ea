"""The only HTTP: routes, who is calling, errors as bodies, server-sent events."""
