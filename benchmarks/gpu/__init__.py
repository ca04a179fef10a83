"""What hand-offs of device memory cost: times on a GPU, counts on the simulated driver.

``run.sh`` builds, tests and measures everything on a machine with a GPU and writes one JSON;
``python -m benchmarks.gpu --simulated`` counts driver calls without one. Nothing that comes
from the simulated driver is a time.
"""
