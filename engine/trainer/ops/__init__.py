"""The operations that take most of the time and memory, each in a form that needs less of one of them.

``matmul``             matmuls with weights, in the dtype that the device multiplies fast
``blocked_attention``  attention in blocks of keys: no [T, S] scores in memory
``cross_entropy``      the head and its loss in blocks: no [tokens, V] logits in memory
"""
