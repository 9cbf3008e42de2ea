"""Requirements of accounts, sign-in, sessions and keys."""
