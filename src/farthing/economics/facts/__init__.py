"""Facts: hardware, models, prices, grids; parsed, named, looked up."""
