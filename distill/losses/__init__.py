"""What a student learns from, as pure functions."""
