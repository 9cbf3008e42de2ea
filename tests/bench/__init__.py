"""Measurements. Each is a program of its own and prints what it measured."""
