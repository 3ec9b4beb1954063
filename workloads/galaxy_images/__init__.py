"""Images of galaxies as LSST would see them: what the other galaxy workloads learn from, and a workload of its own."""
