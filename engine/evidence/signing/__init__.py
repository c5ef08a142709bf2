"""Signatures over the statement of what was made: who vouches for evidence (trust level L1).

``envelope`` is the file, ``public_keys`` and ``trust`` which ones a reader believes, ``signatures`` what that makes of it; these need the standard
library only. ``private_keys`` and ``sign`` make a signature, with the extra ``sign``.
"""
