"""Lens adaptation: classifiers of dark matter in strong lenses carried from one telescope to another."""
