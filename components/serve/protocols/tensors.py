"""Tensors of the Open Inference Protocol: texts from JSON or from the bytes behind it, vectors as JSON or as bytes.

Source: Triton's extension for binary tensor data. A body is the JSON, whose length the header
Inference-Header-Content-Length gives, and then the bytes of the tensors in their order. An element of a BYTES tensor is
its length in four bytes, little-endian, and then its content.
"""

from __future__ import annotations

import struct

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from components.serve.protocols.answers import InferAnswer, JSONResponse
from components.serve.protocols.bodies import InferBody, InputTensor
from components.serve.protocols.decoding import check_texts

JSON_LENGTH_HEADER = "inference-header-content-length"
_LENGTH = struct.Struct("<I")


def split_body(body: bytes, json_length: str | None) -> tuple[bytes, bytes | None]:
    """The JSON of a body and the bytes behind it; None where the header does not say that there are any."""
    if json_length is None:
        return body, None
    if not json_length.isdecimal() or int(json_length) > len(body):
        raise HTTPException(
            400, f"{JSON_LENGTH_HEADER}: {json_length!r} is not the length of the JSON in a body of {len(body)} bytes"
        )
    return body[: int(json_length)], body[int(json_length) :]


def texts_of(tensor: InputTensor, behind: bytes | None) -> list[str]:
    """The texts of the input tensor in row-major order.

    Raises:
        HTTPException: 400 where data, shape and bytes do not agree.
    """
    if tensor.parameters.shared_memory_region is not None:
        raise HTTPException(
            400, "inputs[0].parameters.shared_memory_region: this server reads no shared memory; send the tensor"
        )
    if tensor.data is not None:
        if tensor.parameters.binary_data_size is not None or behind:
            raise HTTPException(400, "inputs[0]: has both data and bytes behind the JSON; send one of them")
        texts = [element if isinstance(element, str) else element[0] for element in tensor.data]
    else:
        texts = _binary_texts(tensor.parameters.binary_data_size, behind)
    if tensor.shape not in ([len(texts)], [len(texts), 1]):
        raise HTTPException(
            400,
            f"inputs[0].shape: {tensor.shape} is neither [{len(texts)}] nor [{len(texts)}, 1], and {len(texts)} texts "
            "were sent",
        )
    check_texts("inputs[0].data", texts)
    return texts


def _binary_texts(num_bytes: int | None, behind: bytes | None) -> list[str]:
    if num_bytes is None:
        raise HTTPException(400, "inputs[0].data: missing; send a list of texts, or parameters.binary_data_size")
    if behind is None:
        raise HTTPException(
            400, f"inputs[0].parameters.binary_data_size: the header {JSON_LENGTH_HEADER} is missing; send it"
        )
    if len(behind) != num_bytes:
        raise HTTPException(
            400,
            f"inputs[0].parameters.binary_data_size: {num_bytes}, but {len(behind)} bytes follow the JSON; mend one",
        )
    if not num_bytes:
        raise HTTPException(400, "inputs[0]: the tensor is empty; send at least one text")
    texts: list[str] = []
    start = 0
    while start < num_bytes:
        texts.append(_binary_text(behind, start, len(texts)))
        start += _LENGTH.size + _length_at(behind, start)
    return texts


def _length_at(content: bytes, start: int) -> int:
    (length,) = _LENGTH.unpack_from(content, start)
    return int(length)


def _binary_text(content: bytes, start: int, position: int) -> str:
    first = start + _LENGTH.size
    if first > len(content) or first + _length_at(content, start) > len(content):
        raise HTTPException(
            400,
            f"inputs[0]: element {position} ends beyond the tensor; each is its length in four bytes, little-endian, "
            "and then its UTF-8",
        )
    try:
        return content[first : first + _length_at(content, start)].decode()
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"inputs[0]: element {position} is not UTF-8 ({error.reason}); encode it") from error


def wants_binary(body: InferBody) -> bool:
    """Whether the vectors are to follow the JSON as bytes.

    Raises:
        HTTPException: 400 where an output is asked for in a form that this server does not have.
    """
    wanted = body.parameters.binary_data_output
    for position, output in enumerate(body.outputs):
        for name in ("classification", "shared_memory_region"):
            if getattr(output.parameters, name) is not None:
                raise HTTPException(
                    400, f"outputs[{position}].parameters.{name}: this server sends the vectors only; leave it out"
                )
        if output.parameters.binary_data is not None:
            wanted = output.parameters.binary_data
    return wanted


def infer_response(answer: InferAnswer, *, binary: bool, headers: dict[str, str]) -> Response:
    """The answer as JSON, or as JSON and the little-endian bytes of its one output behind it."""
    (output,) = answer["outputs"]
    if not binary:
        return JSONResponse(answer, headers=headers)
    vectors = output["data"].astype("<f4").tobytes()
    described = {**output, "parameters": {"binary_data_size": len(vectors)}}
    del described["data"]
    head = orjson.dumps({**answer, "outputs": [described]})
    return Response(
        head + vectors,
        headers={**headers, JSON_LENGTH_HEADER: str(len(head))},
        media_type="application/octet-stream",
    )
