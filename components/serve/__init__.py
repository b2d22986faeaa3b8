"""serve: encoder and index -> HTTP.

Reads: encoder, index, dataset (for the passages' text).
Answers: /search, /v1/embeddings, /healthz, /readyz, /metrics.
Needs: onnxruntime, faiss, starlette, uvicorn; no torch.
Guarantees: an index of another encoder is refused at start; every request is answered 200, 4xx or 503; SIGTERM drains.
"""
