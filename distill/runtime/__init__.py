"""The process that distill runs in, and what a person sees while it works; nothing of images or models."""
