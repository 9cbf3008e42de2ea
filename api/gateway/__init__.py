"""Owns one call from admission to settlement: who may call how often, which vendor answers, what it costs."""
