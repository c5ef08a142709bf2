"""What a train step costs on a machine, asked of that machine's compiler.

``price``     the verb: compile, and report bytes
``machines``  the machines that can be asked, attached or only described
``buffers``   which arrays live at the peak
"""
