"""`python -m mcdiff_commands` is the same as `mcdiff`."""

import sys

from .main import main


sys.exit(main())
