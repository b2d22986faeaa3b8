"""engines: prompts to completions or log-likelihoods; engine.py says how, one file an engine, four the endpoint's."""
