"""Answers from a model.

``generate``   the body of the generate job
``prompts``    prompts to token ids
``sampler``    many answers at once, with a cache
``sampling``   the next token from logits
``sequences``  where an answer ends, and its text
"""
