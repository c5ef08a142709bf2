"""The trainer as a process of its own, from the engine's side: start it, read its events, stop it.

``host``     who starts it
``process``  starts it, passes its events on, explains how it ended
``jobs``     its jobs, made from a spec
``cluster``  which processes of several machines belong together
"""
