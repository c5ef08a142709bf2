"""From gradients to new weights.

``rules``                AdamW and Adafactor for one slice of one leaf
``optimizer``            schedule, clipping, and the walk over all leaves
``tied_embedding``       the update of a table that is also the head, while its gradient is computed
``stochastic_rounding``  float32 to bfloat16, right on average
"""
