"""What a train step costs on a machine, before it runs there.

``price``      the verb: ask the machine's compiler, and report bytes
``machines``   the machines that can be asked, attached or only described
``buffers``    which arrays live at the peak
``hlo``        the optimised program as data; ``matmuls``, ``work``: what it computes, moves and sends
``modelled``   how long it would take, by the compiler or by the data sheet
``shardings``  how the weights would be sharded over a mesh, as a table
"""
