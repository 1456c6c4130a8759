"""`python -m ia_cli` is `ia`."""

from ia_cli.main import main

if __name__ == "__main__":
    main()
