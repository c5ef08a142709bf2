"""Checkpoints that survive a kill at any instant.

``checkpoints``  save, restore, fall back to the previous one
``manifest``     what a checkpoint records of itself, and which training run may resume from it
``saver``        when one is due, and its events
``retention``    which ones are kept
``disk_space``   whether the next one fits on the disk
"""
