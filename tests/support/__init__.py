"""What the tests are made of: fake producers, C helpers, child processes, live counts."""
