"""Chips that are not here: their time, memory and energy from a model, the step's numbers from a real run on the CPU."""
