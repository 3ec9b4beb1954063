"""Published figures that reports set beside what was measured, each with its source."""
