"""The verbs. This room and `distill.api` alone know all others, and only inside their functions: `distill --help` loads nothing heavy."""

from distill.cli.main import main, outcome, run

__all__ = ["main", "outcome", "run"]
