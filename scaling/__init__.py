"""Scaling laws: run a sweep, fit it, plot it, and say how sure the answer is. Reads run records, never greps logs."""
