"""Galaxy shape: a network that reads ellipticity and redshift off six-band images (Arcelin 2021)."""
