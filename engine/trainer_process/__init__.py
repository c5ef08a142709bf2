"""The trainer as a process of its own, seen from outside: started, fed, watched, stopped.

``process``  starts it, passes its events on, explains its end
``jobs``     what it is asked to do, made from a spec
``cluster``  which processes of several machines belong together
"""
