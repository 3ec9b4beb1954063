"""NVIDIA GPUs, through PyTorch."""
