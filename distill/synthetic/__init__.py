"""Images that nobody took."""
