"""serve: encoder and index -> HTTP.

Reads: encoder, index, dataset (for the passages' text, and for the modes bm25 and hybrid its BM25 index).
Answers: /search, /v1/embeddings, /v2 (Open Inference Protocol), /healthz, /readyz, /metrics.
Needs: onnxruntime, faiss, bm25s, starlette, uvicorn, msgspec; no torch.
Guarantees: an index of another encoder is refused at start; a request is answered 200, 4xx, 503, or 500 with its reason
(a vector that is not finite); SIGTERM drains.
"""
