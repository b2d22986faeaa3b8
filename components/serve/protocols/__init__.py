"""What clients send and get: our own search, OpenAI's embeddings, and the Open Inference Protocol.

`operations` is the one table of paths; routes, metrics and the OpenAPI document are made from it. Request bodies are
the structures in `bodies`, answers the typed dictionaries in `answers`: both are checked, and both are the document.
"""
