"""What runs leave behind, whole or not at all: the store of artifacts and the journal of what happened.

``store``    staging, publish, look-up by fingerprint, digests, kernel locks
``journal``  append-only JSONL of a run, and the run record that is read back from it
"""
