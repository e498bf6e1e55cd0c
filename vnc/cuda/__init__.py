"""Kernels and 8-bit products of a GPU."""
