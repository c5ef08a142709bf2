"""What the trainer reports while it works: one dataclass per event, with the line that a person reads.

``base``         the base of all events; notes, the final events of a job, events of other packages
``training``     a training run, in their usual order
``checkpoints``  saved, restored, refused
``generation``   answers
``inputs``       rows that are tokenized, files from the hub
``table``        all of them by name; to JSON and back

The display, the log and docs/reference/events.md are derived from these classes; nothing else knows a field.
"""
