"""The checks, a file for each matter. Plain functions ``check(subject)``."""
