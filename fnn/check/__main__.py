"""`python -m fnn.check`: see `fnn.check.command.main`."""

import sys

from fnn.check.command.main import main

if __name__ == "__main__":  # worker processes import this file, too
    sys.exit(main())
