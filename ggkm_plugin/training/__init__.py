"""Training and test runs: config checks, dry runs, the run itself."""
