"""A student as a file that others load."""
