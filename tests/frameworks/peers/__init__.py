"""One file a framework: how its own users see arrays, and what is special about it."""
