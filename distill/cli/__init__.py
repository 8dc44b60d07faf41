"""The verbs. The only room that knows all others, and only inside its functions: `distill --help` loads nothing heavy."""

from distill.cli.main import main, outcome, run

__all__ = ["main", "outcome", "run"]
