"""A run: its spec, the queue, the agent that takes it up, the runner that carries it out."""
