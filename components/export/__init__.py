"""export: checkpoint -> encoder.

Reads: a checkpoint, or any Hugging Face encoder.
Writes: encoder (ONNX graph with pooling and normalisation inside, tokenizer, settings).
Needs: torch, onnx, onnxruntime.
Guarantees: vectors equal torch's within the stated difference over lengths from 2 tokens to the longest, or the job fails.
"""
