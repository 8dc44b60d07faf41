"""Image lists: rows (key, label) in one fixed order, from folders, text, record files and tars."""
