"""Owns the ways to an upstream: the transport and one small file per vendor."""
