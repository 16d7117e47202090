"""Economics of inference: memory, time, money and energy of models on hardware, in pure functions."""
