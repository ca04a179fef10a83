"""What a hand-off costs, beside the floor and beside every peer, from one run.

``python -m benchmarks`` is the host suite; ``README.md`` says what the figures mean.
Imports only the public names of dlexchange, never its extension.
"""

from __future__ import annotations

import os

# numpy's BLAS starts threads at import that spin for a while, beside what is timed.
for _pool in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_pool, "1")
