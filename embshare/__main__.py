"""``python -m embshare``."""

from embshare.cli import main

if __name__ == "__main__":
    main()
