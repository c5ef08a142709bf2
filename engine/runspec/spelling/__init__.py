"""How things are written: characters that only look like YAML's own, and names that no disk, or not every one, can hold.

``look_alikes``  no-break, zero-width and full-width characters, named where they stand
``file_names``   names in a run-spec that become files
"""
