"""A run: its plan, its stages, its folder."""
