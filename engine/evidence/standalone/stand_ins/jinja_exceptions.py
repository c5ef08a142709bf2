"""Stands for jinja2.exceptions: the class that the limits of :mod:`engine.sandbox` are of."""


class SecurityError(Exception):
    """The template goes over a limit, or does what templates may not."""
