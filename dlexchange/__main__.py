"""Run the doctor: ``python -m dlexchange``."""

import sys

from .doctor import main

sys.exit(main())
