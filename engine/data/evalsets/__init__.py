"""The items of the shipped eval sets; ``engine.data.make_evalsets`` writes the files."""
