"""Energy: watts, joules per token, carbon, clocks."""
