"""What evaluate and answer measure with: statistics of paired values; runs as TREC files."""
