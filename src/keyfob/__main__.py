"""`python -m keyfob`: the same as `keyfob`."""

from keyfob.cli import main

if __name__ == "__main__":
    main()
