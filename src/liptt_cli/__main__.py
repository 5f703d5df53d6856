"""`python -m liptt_cli` is `liptt`."""

from liptt_cli.cli.main import main

main()
