"""Many images: who takes which, workers that may die, rows that hold, and going on where a run was stopped."""
