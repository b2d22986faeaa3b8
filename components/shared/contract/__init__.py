"""contract: what a job and the platform that runs it owe each other: inputs, outputs, endings, what a pod must have."""
