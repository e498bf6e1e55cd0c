"""vnc: train your own small ChatGPT from raw text. The core: model, optimizer, checkpoints, generation."""

__version__ = "0.1.0"
