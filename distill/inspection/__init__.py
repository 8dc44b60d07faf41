"""What lies at a path, in words."""
