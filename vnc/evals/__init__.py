"""Benchmarks: what a trained model knows, scored as the reference implementations score it. No Lightning in here."""
