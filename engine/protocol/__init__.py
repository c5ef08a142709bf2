"""What passes between the engine and the trainer's process: typed jobs one way, typed events the other.

Both sides import this package and nothing of each other. Standard library only.

``jobs``           what the trainer is asked to do, a dataclass for each verb
``events``         what it tells while it does it, a dataclass for each event, with what a person reads of it
``train_args``     the arguments of a training run; beside each of them, what it affects
``generate_args``  the arguments of generation
``codec``          dataclasses to JSON and back; an unknown, missing or mistyped field is an error that names it
``figures``        numbers, sizes and durations for people
"""
