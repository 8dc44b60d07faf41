"""`python -m distill.cli` is `distill`."""

from distill.cli import main

main()
