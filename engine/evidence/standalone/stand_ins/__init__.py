"""What stands in verify.py for libraries that a stranger may not have: small readers of ours, each strict about its subset."""
