"""Hand tensors between frameworks without copying and without blocking."""
