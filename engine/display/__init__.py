"""What a run shows while it works, and its log.

``plain``       one line per event, for pipes and notebooks; ``make_console`` chooses between it and ``live``
``live``        the display of a terminal
``event_text``  events and facts as text, shared by both
``log``         the log of a run, JSONL, redacted
"""
