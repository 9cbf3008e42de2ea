"""What we send to people: mail."""
