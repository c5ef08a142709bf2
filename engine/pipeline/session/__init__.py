"""One run over many sessions: when a session ends, what it leaves, and how another one resumes from there.

``limits``      the options of a session, and whether its limit is reached
``ending``      a session that ends before its run: evidence that says so, the recipe of the next one, the carry-over
``carry_over``  what another machine needs, written safely
``take_over``   the same read again, every byte checked
``carried``     the form of ``session.json``
``rows``        the sessions of a run, for its record, ``status`` and ``show``
"""
