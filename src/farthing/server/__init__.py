"""The HTTP face of the gateway: a thin data plane that parses, calls the pipeline and writes the answer."""
