"""What passes between the engine and the trainer's process: typed jobs one way, typed events the other.

Both sides import this package, and neither imports the other. Standard library only.

``jobs``           what the trainer does: a dataclass for each verb
``events``         what it reports meanwhile: a dataclass for each event, with the line that a person reads
``train_args``     the arguments of a training run; beside each of them, what it affects
``generate_args``  the arguments of generation
``codec``          dataclasses to JSON and back; an unknown, missing or mistyped field is an error that names it
``figures``        numbers, sizes and durations for people
``machines``       the machines that are known, with the memory of a device
``peaks``          their arithmetic and memory at best, by the vendors
"""
