"""The wire: OpenAI's request and stream formats as pure functions over bytes. No I/O, no settings."""
