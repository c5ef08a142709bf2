"""The Flax library that trains and samples; publishable alone (imports engine.errors and engine.canonical only)."""
