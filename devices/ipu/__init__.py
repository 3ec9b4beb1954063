"""Graphcore IPUs, through PopTorch or Graphcore's TensorFlow."""
