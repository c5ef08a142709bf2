"""The driver: from a run-spec on a person's machine to verified evidence of a run on Kaggle, without anything done by hand.

``planning``   what is pushed: name, machine, sources, notebook
``preflight``  what would be refused, before anything is pushed
``push``       intent, SaveKernel, what came of it
``watch``      the session until it is over, with its log
``outputs``    its files, each with its size and digest
``judge``      what the session says of itself, and whether it is the one that was pushed
``machine``    the states, in order, through as many sessions as the run needs
``story``      all of it on disk before it happens

Codes: G200 to G399.
"""
