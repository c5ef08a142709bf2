"""runspec-engine: one YAML run-spec, from its text to evidence that a stranger can check.

    YAML text -> Spec -> Plan -> steps -> artifacts + run record -> evidence files -> package -> verification

Importing this package costs nothing: no part of it is imported here, and only ``engine.trainer``
(run in a process of its own) ever imports JAX.
"""

__version__ = "0.1.0"
