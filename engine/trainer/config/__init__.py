"""The arguments of a training run as typed values.

``train_args``   all of them
``mesh``         how many devices share the rows and the weights
``batch_shape``  how a global batch is cut into micro-batches and rows a device
"""
