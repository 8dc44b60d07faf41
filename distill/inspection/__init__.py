"""Describes what is at a path."""
