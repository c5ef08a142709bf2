"""The checks that compute the evidence again: rendered files, the run-spec, the chain of steps, facts, members."""
