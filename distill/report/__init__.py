"""Pages for people: a run, the demo."""
