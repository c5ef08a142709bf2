"""From a spec to a finished run: decide, execute, record, finish.

``plan``             each step to run or to skip, and why, by fingerprint
``runner``           the one function that does the whole job
``record``           journal and artifacts to the run record
``finish``           the record to evidence, package, verification
``section_digests``  the sections of a spec as a step depends on them
``provenance``       the machine, the code and the libraries of a run
"""
