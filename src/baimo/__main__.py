"""`python -m baimo`."""

from baimo.cli.main import main

main()
