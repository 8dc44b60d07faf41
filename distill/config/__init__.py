"""Run files as values; no Keras here."""
