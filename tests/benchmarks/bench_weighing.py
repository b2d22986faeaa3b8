"""Engines that weigh tokens, beside each other: prompt tokens a CPU second, and differences from transformers in fp32.

    python tests/benchmarks/bench_weighing.py [--engines transformers,transformers-bf16,vllm] [--rounds 4]

vLLM runs where it is installed, such as in the environment of tests/vllm_env.sh; elsewhere leave it out. All weigh the
prompts that decide a precision (components/shared/calls/precision.py) with the packaged LLM, in turns.
"""

import argparse
import os
import statistics
import time

from components.shared.calls.precision import differences, weighed
from components.shared.encoding.engines import processor
from components.shared.engines.config import LoadOptions
from components.shared.engines.engine import Engine
from components.shared.engines.opening import open_engine
from pipelines.packaged import find_llm

_ENGINES = {
    "transformers": ("transformers", LoadOptions()),
    "transformers-bf16": ("transformers", LoadOptions(precision="bf16")),
    "vllm": ("vllm", LoadOptions(max_model_tokens=2048)),
}


def main() -> None:
    """Prints a line an engine."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--engines", default="transformers,transformers-bf16")
    parser.add_argument("--rounds", type=int, default=4)
    flags = parser.parse_args()
    engines: dict[str, Engine] = {}
    for name in ("transformers", *flags.engines.split(",")):
        engine, options = _ENGINES[name]
        if name not in engines:
            engines[name] = open_engine(engine, llm_uri=str(find_llm()), batch_tokens=1024, options=options)  # type: ignore[arg-type]
    rates: dict[str, list[float]] = {name: [] for name in engines}
    rows = {}
    # The first round warms up.
    for number in range(flags.rounds + 1):
        for name, engine in engines.items():
            start = time.process_time()
            rows[name] = weighed(engine)
            num_tokens = sum(row.prompt_tokens for row in rows[name])
            if number:
                rates[name].append(num_tokens / (time.process_time() - start))
    print(
        f"processor: {processor.described()}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads, {num_tokens} tokens"
    )
    expected = [row.logprobs for row in rows["transformers"]]
    for name, of_rounds in rates.items():
        token_nats, mean_nats = differences(expected, [row.logprobs for row in rows[name]])
        rate = f"{statistics.median(of_rounds):6.0f} tokens/CPU s ({min(of_rounds):.0f} to {max(of_rounds):.0f})"
        print(f"  {name:18} {rate}, differs by at most {token_nats:.4f} nats a token, {mean_nats:.4f} in a mean")
    for engine in engines.values():
        engine.close()


if __name__ == "__main__":
    main()
