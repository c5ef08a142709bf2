"""What several benchmarks share: their table, the model they train, the rows they train it on. Nothing here is run by itself."""
