"""`python -m mvsd` is the command line."""

from mvsd.cli import main

if __name__ == "__main__":
    main()
