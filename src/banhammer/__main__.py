"""`python -m banhammer` is `banhammer`."""

from banhammer.cli import main

if __name__ == "__main__":
    main()
