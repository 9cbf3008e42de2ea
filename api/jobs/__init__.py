"""Periodic work. Each job runs in one process at a time, by a lease in our own database."""
