"""What a hand-off costs, beside the floor and beside every peer, from one run.

``python -m benchmarks`` is the host suite; ``README.md`` says what the figures mean.
Imports only the public names of dlexchange, never its extension.
"""
