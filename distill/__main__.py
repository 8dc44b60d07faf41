"""`python -m distill` is `distill`."""

from distill.cli import main

main()
