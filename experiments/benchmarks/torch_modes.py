"""How PyTorch runs a step; apart from torch_steps.py, which imports torch."""

MODES = ('eager', 'channels_last', 'compile')
