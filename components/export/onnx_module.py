"""The encoder as a module of sentence-transformers: copied into each exported folder, run only where people load that folder with it.

`SentenceTransformer(folder, trust_remote_code=True)`; trust, because a folder brings this file along. Queries are
encoded with
`encode_query`, passages with `encode_document`: the prefixes are the model's prompts.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from sentence_transformers.base.modules import InputModule
from tokenizers import Tokenizer


class OnnxEncoder(InputModule):
    """Tokenizer and ONNX graph; pooling and normalisation are inside the graph."""

    save_in_root = True

    def __init__(self, folder: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates it no more than that
        self.folder = Path(folder)
        self.settings = json.loads((self.folder / "encoder.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.tokenizer.enable_padding(pad_id=self.settings["pad_token_id"])
        self.max_seq_length = self.settings["passage_tokens"]
        self.session = onnxruntime.InferenceSession(str(self.folder / "model.onnx"))

    @classmethod
    def load(cls, model_name_or_path: str, *_: Any, **__: Any) -> "OnnxEncoder":  # noqa: ANN401 what sentence-transformers passes
        """The module of a folder."""
        return cls(model_name_or_path)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        """Token ids and mask; a query's prompt comes with a query's length."""
        is_query = prompt is not None and prompt == self.settings["query_prefix"] != self.settings["passage_prefix"]
        self.tokenizer.enable_truncation(self.settings["query_tokens"] if is_query else self.max_seq_length)
        encodings = self.tokenizer.encode_batch([(prompt or "") + text for text in inputs])
        ids, mask = ([getattr(its, name) for its in encodings] for name in ("ids", "attention_mask"))
        return {
            "input_ids": torch.tensor(ids, dtype=torch.long),
            "attention_mask": torch.tensor(mask, dtype=torch.long),
        }

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401
        """Adds the vectors."""
        inputs = {name: np.ascontiguousarray(features[name].cpu().numpy()) for name in ("input_ids", "attention_mask")}
        (vectors,) = self.session.run(["vectors"], inputs)
        return {**features, "sentence_embedding": torch.from_numpy(vectors)}

    def get_embedding_dimension(self) -> int:
        """Length of a vector."""
        return int(self.settings["dimension"])

    def save(self, output_path: str, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Copies the files that `load` reads."""
        for name in ("encoder.json", "tokenizer.json", "model.onnx", "onnx_module.py"):
            shutil.copy(self.folder / name, output_path)
