"""Values derived from a training run's arguments (engine.protocol.train_args).

``mesh``         the sizes of the mesh axes for a number of devices
``batch_shape``  how a global batch is split into micro-batches and rows per device
"""
