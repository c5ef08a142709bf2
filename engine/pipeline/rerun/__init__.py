"""``verify --rerun``: a part of somebody's run, run again here, so that what comes out can be compared with the evidence.

``again``     the answers of some items, the first train steps: the handlers of the steps, in a folder of their own
``workshop``  that folder, and one step in it
``material``  what they need: the model of the recorded digest, the rows, the base
``machine``   how this machine and its libraries differ from the recorded ones

Nothing of the project is written: not its store, not its cache, not the evidence.
"""
