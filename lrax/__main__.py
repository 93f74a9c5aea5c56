"""The command line: `python -m lrax`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
