"""A model's pass for generation, in three ways that beat `GPT.forward` at a token at a time: in C (c_decoder.py), by
torch's operations on a CPU (decoder.py), and recorded once and replayed on a GPU (recorded_steps.py)."""
