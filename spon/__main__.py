"""`python -m spon` is the `spon` command."""

from spon.cli.main import main

if __name__ == "__main__":
    main()
