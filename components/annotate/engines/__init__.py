"""engines: prompts -> completions or token log-likelihoods; vLLM, any OpenAI-compatible server, transformers on a CPU, or many at once."""
