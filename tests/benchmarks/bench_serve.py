"""The server against bare ONNX Runtime on the same texts, in turns; latency, overload, memory, cold start.

Run: python tests/benchmarks/bench_serve.py [--workdir F] [--seconds 8] [--rounds 2] [--overload-seconds 10]
         [--against URL --against-path /embeddings --against-model NAME]

Bare = the encoder's own graph in one-thread calls on two threads, texts tokenised and length-sorted beforehand: what is
left is the matrix arithmetic. `--against` measures another embedding server that is already running, in the same
rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # `python tests/benchmarks/...` puts this folder there, not the root

from components.shared.dataset import Dataset  # noqa: E402
from components.shared.encoding.batches import length_sorted_batches  # noqa: E402
from components.shared.encoding.encoder import Encoder  # noqa: E402

NUM_PASSAGES = 400
# Best for the bare sessions: at 128, 256, 384 and 512 they encode 85, 86, 85, 84 passages and 504, 539, 523, 502
# queries a second.
BATCH_TOKENS = 256
CLIENTS = (1, 16, 64, 256)


class Server:
    """`python -m components.serve` on a free port."""

    def __init__(self, workdir: Path, *flags: str) -> None:
        artifacts = [f"--{name}-uri={workdir / name}" for name in ("encoder", "index", "dataset")]
        command = [
            sys.executable,
            "-m",
            "components.serve",
            "--port=0",
            "--drain-seconds=0",
            "--no-access-log",
            *artifacts,
            *flags,
        ]
        started = time.perf_counter()
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, cwd=ROOT, env={**os.environ, "RETRIEVER_LOG": "json"}
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            event = json.loads(line)
            if event["event"] == "serving":
                self.url = event["url"]
                break
            assert event["level"] != "error", event
        assert urllib.request.urlopen(f"{self.url}/readyz").status == 200
        self.seconds_to_ready = time.perf_counter() - started
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def resident_mib(self) -> float:
        return memory_mib(self.process.pid, "VmRSS")

    def peak_mib(self) -> float:
        return memory_mib(self.process.pid, "VmHWM")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0


def memory_mib(pid: int, field: str) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


def load(url: str, path: str, bodies: Sequence[dict[str, Any]], **plan: Any) -> dict[str, Any]:
    """Runs the load generator; latencies in seconds by status."""
    given = json.dumps({"url": url, "path": path, "bodies": bodies, **plan}).encode()
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.load"], input=given, stdout=subprocess.PIPE, check=True, cwd=ROOT
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def rate(result: dict[str, Any]) -> float:
    assert set(result["counted"]) <= {"200"}, result["counted"]
    assert not result["failed"]
    return float(result["counted"].get("200", 0) / result["seconds"])


def percentiles(latencies: Sequence[float]) -> str:
    ordered = sorted(latencies)
    return " / ".join(
        f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000:.0f}" for share in (0.5, 0.95, 0.99)
    )


def bare_rate(encoder: Encoder, token_ids: Sequence[list[int]], seconds: float) -> tuple[float, int]:
    """Texts a second on two threads for `seconds`, and texts."""
    batches = list(length_sorted_batches([len(ids) for ids in token_ids], BATCH_TOKENS))
    random.Random(0).shuffle(batches)
    endless, start = itertools.cycle(batches), time.perf_counter()

    def encode(_: int) -> int:
        num_texts = 0
        while time.perf_counter() - start < seconds:
            rows = next(endless)
            encoder.encode_tokens([token_ids[row] for row in rows], batch_tokens=BATCH_TOKENS)
            num_texts += len(rows)
        return num_texts

    with ThreadPoolExecutor(2) as pool:
        num_texts = sum(pool.map(encode, range(2)))
    return num_texts / (time.perf_counter() - start), num_texts


def texts_of(workdir: Path) -> dict[str, list[str]]:
    dataset = Dataset(workdir / "dataset")
    # Cut to 45 to 80 words, some 60 to 130 tokens: other servers would cut longer ones elsewhere.
    generator = random.Random(0)
    passages = [
        " ".join(passage.full_text.split()[: generator.randint(45, 80)])
        for passage in dataset.iter_passages(0, NUM_PASSAGES)
    ]
    queries = [query.text for query in dataset.queries()[:NUM_PASSAGES]]
    generator.shuffle(passages)
    return {"passage": passages, "query": queries}


def bodies_of(texts: Sequence[str], kind: str) -> list[dict[str, Any]]:
    return [{"input": text, "input_type": kind, "encoding_format": "base64", "truncate": True} for text in texts]


def compare(workdir: Path, server: Server, arguments: argparse.Namespace) -> None:
    encoder = Encoder(workdir / "encoder", num_threads=1)
    for kind, texts in texts_of(workdir).items():
        tokenize = encoder.tokenize_queries if kind == "query" else encoder.tokenize_passages
        token_ids = tokenize(texts)
        plan = {"clients": 64, "seconds": arguments.seconds, "settle_seconds": 2.5}
        rates: dict[str, list[float]] = {"bare": [], "server": [], "other": []}
        cpu: dict[str, list[float]] = {"bare": [], "server": [], "clients": []}
        for _ in range(arguments.rounds):
            before = time.process_time()
            bare, num_texts = bare_rate(encoder, token_ids, arguments.seconds)
            rates["bare"].append(bare)
            cpu["bare"].append((time.process_time() - before) / num_texts)
            before = server.cpu_seconds()
            result = load(server.url, "/v1/embeddings", bodies_of(texts, kind), **plan)
            rates["server"].append(rate(result))
            cpu["server"].append((server.cpu_seconds() - before) / len(result["latencies"]["200"]))
            cpu["clients"].append(result["cpu_seconds"] / len(result["latencies"]["200"]))
            if arguments.against:
                other_bodies = [
                    {"input": text, "model": arguments.against_model, "encoding_format": "base64"} for text in texts
                ]
                rates["other"].append(rate(load(arguments.against, arguments.against_path, other_bodies, **plan)))
        tokens = sum(map(len, token_ids)) / len(token_ids)
        bare, ours = median(rates["bare"]), median(rates["server"])
        print(
            f"{kind} (mean {tokens:.0f} tokens): bare {bare:.1f}/s, server at 64 clients {ours:.1f}/s, "
            f"ratio {ours / bare:.3f}"
        )
        # What two cores that nobody else uses would give: a busy neighbour takes time from both sides but no CPU.
        milliseconds = {name: median(values) * 1000 for name, values in cpu.items()}
        shares = ", ".join(f"{name} {value:.2f} ms" for name, value in milliseconds.items())
        ratio = milliseconds["bare"] / (milliseconds["server"] + milliseconds["clients"])
        print(f"{kind}: CPU a text: {shares}; ratio {ratio:.3f}")
        if rates["other"]:
            other = median(rates["other"])
            print(f"{kind}: {arguments.against} {other:.1f}/s; this server {ours / other:.2f} x of it")


def latencies(workdir: Path, server: Server, seconds: float) -> None:
    texts = texts_of(workdir)
    for path, bodies in (
        ("/search", [{"query": text, "truncate": True} for text in texts["query"]]),
        ("/v1/embeddings", []),
    ):
        for num_clients in CLIENTS:
            given = bodies or bodies_of(texts["passage"], "passage")
            result = load(
                server.url,
                path,
                given,
                clients=num_clients,
                seconds=seconds,
                settle_seconds=8.0 if num_clients > 64 else 3.0,
            )
            assert not result["failed"]
            kinds = {status: len(seconds_each) for status, seconds_each in result["latencies"].items()}
            print(f"{path} at {num_clients} clients: p50/p95/p99 {percentiles(result['latencies']['200'])} ms; {kinds}")


def overload(workdir: Path, server: Server, seconds: float) -> None:
    texts = texts_of(workdir)["passage"]
    bodies = bodies_of(texts, "passage")
    capacity = rate(load(server.url, "/v1/embeddings", bodies, clients=16, seconds=5.0, settle_seconds=2.0))
    before = server.resident_mib()
    plan = {"clients": 1024, "seconds": seconds, "rate": 4 * capacity, "settle_seconds": 12.0}
    result = load(server.url, "/v1/embeddings", bodies, **plan)
    kinds = {status: len(seconds_each) for status, seconds_each in result["latencies"].items()}
    sent = int(seconds * plan["rate"])
    unanswered = sent - sum(kinds.values())
    print(
        f"overload: 4 x {capacity:.1f}/s for {seconds:.0f} s: {kinds}, unanswered {unanswered}, "
        f"broken connections {result['failed']}; accepted p50/p95/p99 {percentiles(result['latencies']['200'])} ms, "
        f"refused {percentiles(result['latencies']['429'])} ms; "
        f"resident {before:.0f} -> {server.resident_mib():.0f} MiB, peak {server.peak_mib():.0f} MiB"
    )
    assert set(kinds) <= {"200", "429", "503"}
    assert not unanswered


def shapes(server: Server, num_shapes: int = 1000) -> None:
    """Batches of ever other numbers and lengths of texts; a runtime's memory arena would keep a block for each."""
    generator = random.Random(0)
    wanted = generator.sample([(texts, words) for texts in range(1, 12) for words in range(2, 102)], num_shapes)

    def ask(shape: tuple[int, int]) -> None:
        num_texts, num_words = shape
        body = json.dumps(
            {"input": ["word " * num_words] * num_texts, "input_type": "passage", "truncate": True}
        ).encode()
        request = urllib.request.Request(f"{server.url}/v1/embeddings", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200

    for shape in wanted[:20]:
        ask(shape)
    before = server.resident_mib()
    for shape in wanted[20:]:
        ask(shape)
    print(f"{num_shapes} shapes: resident {before:.0f} -> {server.resident_mib():.0f} MiB")


def http_cpu(workdir: Path) -> None:
    """CPU of a request without the encoder's share: the real tokenizer, and a graph that only looks words up."""
    from tests.tiny_encoder import write_tiny_encoder, write_tiny_index

    texts = texts_of(workdir)["query"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "dataset").symlink_to((workdir / "dataset").resolve())
        words = sorted({word for text in texts for word in text.lower().split()})
        write_tiny_encoder(root / "encoder", 0, words, dimension=384, query_tokens=64, passage_tokens=64)
        write_tiny_index(root / "index", dataset=root / "dataset", encoder=root / "encoder")
        server = Server(root)
        bodies = {
            "/v1/embeddings": bodies_of(texts, "query"),
            "/search": [{"query": text, "truncate": True} for text in texts],
        }
        for path, given in bodies.items():
            for num_clients in (1, 64):
                before = server.cpu_seconds()
                result = load(server.url, path, given, clients=num_clients, seconds=4.0)
                num_requests = len(result["latencies"]["200"])
                milliseconds = (server.cpu_seconds() - before) / num_requests * 1000
                print(
                    f"{path} at {num_clients} clients: {milliseconds:.2f} ms of CPU a request "
                    f"({num_requests / 4:.0f}/s, trivial encoder)"
                )
        server.close()


def memory_of_workers(workdir: Path) -> None:
    single = Server(workdir)
    print(f"cold start to ready {single.seconds_to_ready:.2f} s, resident {single.resident_mib():.0f} MiB")
    single.close()
    two = Server(workdir, "--num-workers=2")
    time.sleep(3.0)
    children = Path(f"/proc/{two.process.pid}/task/{two.process.pid}/children").read_text().split()
    private = [sum(_smaps(int(pid), "Private_Clean", "Private_Dirty")) for pid in children]
    proportional = [sum(_smaps(int(pid), "Pss")) for pid in children]
    print(
        f"two workers: private {' + '.join(f'{mib:.0f}' for mib in private)} MiB, proportional "
        f"{' + '.join(f'{mib:.0f}' for mib in proportional)} MiB, supervisor {two.resident_mib():.0f} MiB resident"
    )
    two.close()


def _smaps(pid: int, *fields: str) -> list[float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return [int(line.split()[1]) / 1024 for line in lines if line.split(":")[0] in fields]


def make(workdir: Path) -> None:
    """all-MiniLM-L6-v2 and an index of documentation, by the project's own jobs."""
    from pipelines.packaged import find_encoder

    run = [sys.executable, "-m"]
    jobs = [
        ["components.prepare.docs", f"--output-uri={workdir / 'collection'}"],
        ["components.prepare", f"--collection-uri={workdir / 'short'}", f"--output-uri={workdir / 'dataset'}"],
        [
            "components.export",
            f"--checkpoint-uri={find_encoder()}",
            f"--output-uri={workdir / 'encoder'}",
            "--query-tokens=48",
            "--passage-tokens=128",
        ],
        [
            "components.index",
            *(f"--{name}-uri={workdir / name}" for name in ("dataset", "encoder")),
            f"--output-uri={workdir / 'index'}",
        ],
    ]
    for number, job in enumerate(jobs):
        subprocess.run([*run, *job], check=True, cwd=ROOT)
        if number == 0:
            _shorten(workdir / "collection", workdir / "short")


def _shorten(collection: Path, short: Path) -> None:
    """The first passages of 45 words and more, some 60 to 130 tokens, and as many queries."""
    (short / "qrels").mkdir(parents=True, exist_ok=True)
    lines = [
        line
        for line in (collection / "corpus.jsonl").read_text().splitlines()
        if 45 <= len(json.loads(line)["text"].split()) <= 110
    ]
    (short / "corpus.jsonl").write_text("\n".join(lines[:NUM_PASSAGES]) + "\n")
    queries = (collection / "queries.jsonl").read_text().splitlines()
    (short / "queries.jsonl").write_text("\n".join(queries[:NUM_PASSAGES]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="encoder, index and dataset of an earlier run; made where missing")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--overload-seconds", type=float, default=10.0)
    parser.add_argument("--only", default="compare,latencies,overload,shapes,http,workers")
    parser.add_argument("--against", default="")
    parser.add_argument("--against-path", default="/embeddings")
    parser.add_argument("--against-model", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workdir = arguments.workdir or Path(folder)
        if not (workdir / "index").is_dir():
            make(workdir)
        measure(workdir, arguments)


def measure(workdir: Path, arguments: argparse.Namespace) -> None:
    wanted = arguments.only.split(",")
    if "workers" in wanted:
        memory_of_workers(workdir)
    if "http" in wanted:
        http_cpu(workdir)
    # On a shared machine 64 clients may have to wait longer than the server would let them; here they are to be
    # measured.
    for flags, names in ((["--max-queue-seconds=60"], ("compare", "latencies", "shapes")), ([], ("overload",))):
        if set(names) & set(wanted):
            server = Server(workdir, *flags)
            try:
                measure_server(workdir, server, arguments, [name for name in names if name in wanted])
            finally:
                server.close()


def measure_server(workdir: Path, server: Server, arguments: argparse.Namespace, wanted: Sequence[str]) -> None:
    if "compare" in wanted:
        compare(workdir, server, arguments)
    if "latencies" in wanted:
        latencies(workdir, server, arguments.seconds / 2)
    if "shapes" in wanted:
        shapes(server)
    if "overload" in wanted:
        overload(workdir, server, arguments.overload_seconds)


if __name__ == "__main__":
    main()
