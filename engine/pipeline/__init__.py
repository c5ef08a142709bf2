"""From a spec to a finished run: decide, execute, record, finish.

``plan``             each step to run or to skip, and why, by fingerprint
``runner``           the one function that does a complete run
``stop``             the stop request of a signal
``session``          one run over many sessions: limits, carry-over, chain
``record``           journal and artifacts become the run record
``finish``           the record becomes evidence, package, verification
``section_digests``  digests of the spec's sections that a step reads
``clock``            when a step ran, on a machine whose clock may be set meanwhile
``git``              asks git, without the caller's environment and settings
``checkout``         the commit, and whether the project's files are that commit's
``provenance``       the machine, the code and the libraries of a run
``rerun``            a part of somebody's run again, for ``verify --rerun``
"""
