"""`python CLI/cli.py launch`: the tool without an installation."""

from arr.cli.main import main

if __name__ == "__main__":
    main()
