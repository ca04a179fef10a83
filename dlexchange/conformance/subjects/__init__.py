"""The subjects that ship with the suite: one file a framework, each with a `subject`."""
