"""calls: questions to an LLM, each made exactly once over any engine, kept in a journal, and counted."""
