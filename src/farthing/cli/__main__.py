"""`python -m farthing.cli` is `farthing`."""

import sys

from farthing.cli import main

sys.exit(main())
