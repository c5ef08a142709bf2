"""Kaggle: the notebook that carries a run there, what runs inside the session, and the driver on a person's machine.

``notebook``  run-spec -> one .ipynb with the engine in it
``session``   what its cells call: bootstrap, secrets, mounts, devices, the output folder; the standard library alone
``driver``    push, watch, fetch, verify, through as many sessions as the run needs

Codes: G100 to G149 notebook, G150 to G199 session, G200 to G399 driver.
"""
