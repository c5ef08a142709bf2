"""A training run that is one session of several: when it has to save for the last time, and the chain that its checkpoints carry."""
