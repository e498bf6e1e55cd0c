"""Pages of C for a CPU, compiled when they are first needed, and what calls them in training. Where there is no
compiler, torch's operations serve (vnc/elementwise.py, loss.py, attention.py and muon.py)."""
