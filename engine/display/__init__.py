"""What a person watches while a run goes on, and the log that stays.

``plain``       one line an event, for pipes and notebooks; chooses between itself and ``live``
``live``        the display of a terminal
``event_text``  events and figures in a person's words, shared by both
``log``         the log of a run, JSONL, without secrets
"""
