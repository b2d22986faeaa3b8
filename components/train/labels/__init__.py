"""labels: annotations and qrels -> training groups, batches with their denominators, the dev set."""
