"""The flow of a velocity field: from v at t = 0 to the displacement at t = 1, and back."""
