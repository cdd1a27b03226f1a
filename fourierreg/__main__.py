"""``python -m fourierreg``."""

import sys

from fourierreg.cli import main

sys.exit(main())
