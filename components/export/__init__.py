"""export: checkpoint -> encoder.

Reads: a checkpoint, or any Hugging Face encoder; a dataset where smaller graphs are asked for.
Writes: encoder (ONNX graphs with pooling and normalisation inside, tokenizer, settings).
Needs: torch, onnx, onnxruntime.
Guarantees: every graph is measured against torch, in vectors and in retrieval, and holds its gates, or the job fails.
"""
