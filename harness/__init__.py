"""siderostat: benchmarks scientific machine learning on any hardware."""

__version__ = "0.1.0"
