"""Who may ask, from where, and how a request is found again in logs and traces."""

import json
import os
from pathlib import Path

import pytest

from components.serve import keys
from components.shared.tracing.context import trace_of
from tests.components.serve.served import InProcess, Sources

OLD, NEW = "old-key-0123456789", "new-key-0123456789"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# rotated monthly\nsearch-box {OLD}\n\n")
    return path


def search(server: InProcess, **headers: str | bytes) -> int:
    return server.request("POST", "/search", json={"query": "volcano"}, headers=headers).status_code


def test_without_a_key_nobody_reads_the_corpus_and_probes_stay_open(
    sources: Sources, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = InProcess(sources.config(num_sessions=1, api_keys_path=str(key_file)))
    refused = server.post("/search", query="volcano")
    statuses = [
        search(server, authorization=f"Bearer {OLD}"),
        search(server, **{"x-api-key": OLD}),
        search(server, authorization=f"Bearer {OLD}x"),
        search(server, authorization=f"Basic {OLD}"),
        search(server, authorization="Bearer "),
        search(server, authorization=b"Bearer \xe4\xff"),
    ]
    closed = [
        server.request(method, path).status_code
        for method, path in (("GET", "/v2/models/encoder"), ("GET", "/v1/models"))
    ]
    opened = [
        server.get(path).status_code
        for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v2/health/ready")
    ]
    server.close()
    assert statuses == [200, 200, 401, 401, 401, 401]
    assert closed == [401, 401]
    assert set(opened) == {200}
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["type"] == "authentication_error"
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["key_name"] for line in logged if line.get("key_name")] == ["search-box", "search-box"]
    assert OLD not in json.dumps(logged)


def test_a_rotated_file_is_read_and_a_broken_one_changes_nothing(
    sources: Sources, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_LOOK_SECONDS", 0.0)
    server = InProcess(sources.config(num_sessions=1, api_keys_path=str(key_file)))

    def write(content: str) -> None:
        # As a mounted Secret changes: another file takes the name.
        key_file.with_suffix(".new").write_text(content)
        os.replace(key_file.with_suffix(".new"), key_file)

    def statuses() -> list[int]:
        return [search(server, authorization=f"Bearer {key}") for key in (OLD, NEW)]

    assert statuses() == [200, 401]
    write(f"search-box {OLD}\nsearch-box {NEW}\n")
    assert statuses() == [200, 200]
    write(f"search-box {NEW}\n")
    assert statuses() == [401, 200]
    write("search-box short\n")
    assert statuses() == [401, 200]
    key_file.unlink()
    assert statuses() == [401, 200]
    server.close()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no API key"),
        ("name\n", ":1: not a name and a key"),
        (f"a {OLD}\nb short\n", ":2: not a name and a key of at least 16"),
    ],
)
def test_a_key_file_that_is_wrong_is_refused_at_start_without_naming_a_key(
    tmp_path: Path, content: str, problem: str
) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(ValueError, match=problem) as refused:
        keys.KeyRing.open(str(path))
    assert OLD not in str(refused.value)
    with pytest.raises(ValueError, match="mend --api-keys-path"):
        keys.KeyRing.open(str(tmp_path / "nowhere"))


def test_browsers_on_other_pages_are_let_in_only_where_allowed(sources: Sources) -> None:
    origin = {"origin": "https://search.example"}
    preflight = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    closed = InProcess(sources.config(num_sessions=1))
    refused = closed.request("OPTIONS", "/search", headers=preflight)
    assert (
        "access-control-allow-origin"
        not in closed.request("POST", "/search", json={"query": "x"}, headers=origin).headers
    )
    closed.close()
    assert refused.status_code == 405
    opened = InProcess(sources.config(num_sessions=1, allowed_origins="https://search.example, https://other.example"))
    allowed = opened.request("OPTIONS", "/search", headers=preflight)
    answer = opened.request("POST", "/search", json={"query": "x"}, headers=origin)
    stranger = opened.request("POST", "/search", json={"query": "x"}, headers={"origin": "https://evil.example"})
    opened.close()
    assert allowed.headers["access-control-allow-origin"] == "https://search.example"
    assert answer.headers["access-control-allow-origin"] == "https://search.example"
    assert "access-control-allow-origin" not in stranger.headers


def test_a_trace_is_continued_in_the_answer_and_in_the_log(
    server: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
    answer = server.request("POST", "/search", json={"query": "volcano"}, headers=headers)
    version, trace_id, span_id, flags = answer.headers["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert span_id != "b7ad6b7169203331"
    assert answer.headers["tracestate"] == "vendor=1"
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["trace_id"], line["span_id"], line["parent_id"]) == (trace_id, span_id, "b7ad6b7169203331")
    assert line["route"] == "/search"


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"nonsense",
        PARENT.replace("00-", "ff-", 1).encode(),
        PARENT.upper().encode(),
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
    ],
)
def test_a_trace_begins_where_none_can_be_continued(header: bytes | None) -> None:
    trace, other = trace_of(header), trace_of(header)
    assert (len(trace.trace_id), len(trace.span_id), trace.parent_id, trace.flags) == (32, 16, "", "00")
    assert trace.trace_id != other.trace_id
    assert trace_of(trace.traceparent).parent_id == trace.span_id


def test_a_later_version_of_the_header_is_understood() -> None:
    assert trace_of(PARENT.replace("00-", "01-", 1).encode() + b"-more").trace_id == "0af7651916cd43dd8448eb211c80319c"
