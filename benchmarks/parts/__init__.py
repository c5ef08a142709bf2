"""Shared by several benchmarks: the table, the model, the rows it is trained on. Nothing here runs by itself."""
