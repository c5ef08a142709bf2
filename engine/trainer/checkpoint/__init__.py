"""Checkpoints that survive a kill at any instant.

``checkpoints``  save, restore, fall back to the one before
``manifest``     what a checkpoint says of itself, and whom it may be resumed by
``saver``        when one is due, and what stands in it
``retention``    which ones stay
``disk_space``   whether the next one fits on the disk
"""
