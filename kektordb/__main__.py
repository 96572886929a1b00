"""``python -m kektordb`` is the command line."""

import sys

from kektordb.cli import main

if __name__ == "__main__":
    sys.exit(main())
