"""`python -m shrink`."""

from shrink.cli.app import main

if __name__ == "__main__":
    main()
