"""What servers really answer when they are asked for the likelihoods of a text, one row each."""

from tests.components.shared.engines.behaviours import Row, error, weighed

LIKELIHOODS = [
    Row("null first", (weighed([None, -1.5, -9.0]),), logprobs=(-1.5,)),
    Row(
        "usage counts the prompt",
        (weighed([None, -1.5], ["tides", " rise"], {"prompt_tokens": 2, "completion_tokens": 0}),),
        logprobs=(-1.5,),
    ),
    Row(
        "a token before our text",
        (weighed([None, -3.0, -1.5, -9.0], ["<s>", "tides", " rise", " x"]),),
        logprobs=(-1.5,),
    ),
    Row(
        "tokens with SentencePiece's marks",
        (weighed([None, -1.5, -9.0], ["\u2581tides", "\u2581rise", "\u2581x"]),),
        logprobs=(-1.5,),
    ),
    Row(
        "tokens with GPT-2's marks",
        (weighed([None, -1.5, -9.0], ["tides", "\u0120rise", "\u0120x"]),),
        logprobs=(-1.5,),
    ),
    Row(
        "prompt_logprobs of vLLM",
        (
            {
                "choices": [
                    {
                        "text": "x",
                        "prompt_logprobs": [
                            None,
                            {
                                "7": {"logprob": -1.5, "decoded_token": " rise"},
                                "8": {"logprob": -0.5, "decoded_token": " fall"},
                            },
                        ],
                    }
                ]
            },
        ),
        logprobs=(-1.5,),
    ),
    Row(
        "a list of contents",
        (
            {
                "choices": [
                    {
                        "logprobs": {
                            "content": [
                                {"token": "tides", "logprob": None},
                                {"token": " rise", "logprob": -1.5},
                                {"token": " x", "logprob": -9.0},
                            ]
                        }
                    }
                ]
            },
        ),
        logprobs=(-1.5,),
    ),
    Row(
        "null in the middle",
        (weighed([None, None, -9.0]),),
        refusal=r"token 0 of the continuation has no log-likelihood \(null\)",
    ),
    Row(
        "minus infinity",
        (b'{"choices":[{"logprobs":{"tokens":["tides"," rise"," x"],"token_logprobs":[null,-Infinity,-9.0]}}]}',),
        refusal="probability 0 .*-inf",
    ),
    Row("minus infinity of vLLM", (weighed([None, -9999.0, -9.0]),), refusal="probability 0 .*-9999"),
    Row(
        "not a number",
        (b'{"choices":[{"logprobs":{"tokens":["tides"," rise"," x"],"token_logprobs":[null,NaN,-9.0]}}]}',),
        refusal="nan, which is no log-likelihood",
    ),
    Row(
        "a probability instead of its logarithm",
        (weighed([None, 0.7, 0.2]),),
        refusal="0.7, which is no log-likelihood",
    ),
    Row(
        "tokens of another text",
        (weighed([None, -1.0, -9.0], ["moon", " falls", " x"]),),
        refusal="do not end in the continuation",
    ),
    Row(
        "no log-likelihoods",
        ({"choices": [{"text": "x", "logprobs": None}]},),
        ends=ValueError,
        message="gives no likelihoods.*serve the model with vLLM, or use a method",
    ),
    Row(
        "those of the reply only",
        (weighed([-1.0], [" x"], {"prompt_tokens": 2, "completion_tokens": 1}),),
        ends=ValueError,
        message="gives no likelihoods",
    ),
    Row(
        "echo is refused",
        (error("echo is not supported with this model"),),
        400,
        ends=ValueError,
        message="--endpoint-omit echo$",
    ),
]
