"""Who is asking: accounts, sign-in, sessions and API keys, and the `Caller` made of them."""
