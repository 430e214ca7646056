"""Where the shell starters enter Python: a script, for a PYTHONPATH would be inherited by every child."""

import sys

from ezadmin_local.cli import main

sys.exit(main(sys.argv[1:]))
