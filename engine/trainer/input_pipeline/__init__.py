"""From rows of text to batches, in this order:

``rows``         a row's segments, read and checked
``tokenizing``   rows to tokens, in several processes
``token_table``  all tokens of a dataset as a few arrays
``token_store``  the table on disk, keyed by what it is made from (``array_store``)
``long_rows``    rows longer than ``seq_len``: refused, truncated, split or dropped
``packing``      several rows in one sequence
``dataset``      all of the above as one call: packed sequences and their digests
``batches``      which sequences a train step takes: a pure function of seed, epoch and step
``prefetch``     makes the next batch while the current train step runs
``inspect``      rows for people to look at
"""
