"""One training run over several devices and processes.

``sharding``   which axis of a weight is sharded over which axis of the mesh
``placement``  puts arrays on the devices by that rule
``topology``   the devices of a run, by name, for its checkpoints
``processes``  the processes of a run: join, agree, notice that one has failed
``gather``     what one process writes for all
"""
