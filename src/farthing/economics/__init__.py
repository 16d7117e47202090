"""Economics of inference: memory, time, money and energy of models on hardware, as pure functions with units in names."""
