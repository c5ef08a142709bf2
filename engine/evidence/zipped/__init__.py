"""The zip of a package: the one form that ``package`` writes, and what a stranger's zip must be before it is read.

``packed``    evidence files -> the bytes of the zip, the same everywhere
``zip_form``  whether a zip is of that plain form: no tricks of its directory, no other compression
"""
