"""`python -m fnn.check`: see `fnn.check.cli`."""

import sys

from fnn.check.cli import main

if __name__ == "__main__":  # worker processes import this file, too
    sys.exit(main())
