"""The Flax library that trains and samples; publishable alone (imports ground and engine.protocol only)."""
