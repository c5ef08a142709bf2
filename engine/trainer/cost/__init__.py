"""What a train step costs on a machine, before it runs there.

``price``      the verb: ask the machine's compiler, and report bytes
``machines``   the machines that can be asked, attached or only described
``buffers``    which arrays live at the peak
``shardings``  how the weights would be sharded over a mesh, as a table
"""
