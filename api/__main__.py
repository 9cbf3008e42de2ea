"""`python -m api`: see `python -m api --help`."""

from api.cli import main

if __name__ == "__main__":
    main()
