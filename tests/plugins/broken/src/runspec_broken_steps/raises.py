"""A module that cannot be imported."""

raise RuntimeError("this plug-in was built for another age")
