"""Galaxy sampler: a normalizing flow draws latents, a decoder turns them into six-band images (Arcelin 2021)."""
