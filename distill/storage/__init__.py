"""Bytes under a name, on a disk or in an object store: whole or not there, and one writer at a time."""
