"""durable: what outlives a process: local and remote storage, and the journal of LLM calls."""
