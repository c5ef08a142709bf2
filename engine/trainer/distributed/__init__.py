"""One training run over several devices and processes.

``sharding``   which axis of a weight is cut over which axis of the mesh
``placement``  arrays put on the devices by that rule
``topology``   the devices of a run, by name, for its checkpoints
``processes``  the processes of a run: joined, agreed, told when one fails
``gather``     what one process writes for all
"""
