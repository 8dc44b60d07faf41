"""Drawn images."""
