"""What a student learns from: formulas as pure functions, and what of them has state."""
