"""transformers, the reference, asked in a process of its own (:mod:`engine.trainer.reference.child`).

``asking``        one question and its answer
``export_check``  whether transformers reads in an export what we write, and in the base's config.json what we read
``converted``     the tokenizer of a folder that only transformers can read without a guess
"""
