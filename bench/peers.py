"""The peers of the proxy bench: nginx as provider and as reverse proxy, and wrk as the load."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import machine

_NGINX = """
daemon off; master_process off; worker_processes 1;
error_log {folder}/error.log crit; pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; tcp_nodelay on; keepalive_timeout 75s; keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {servers}
}}
"""
_STATIC = "server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 '{body}'; }} }}"
_REVERSE = """
upstream targets {{ {targets} keepalive 256; keepalive_requests 1000000000; }}
server {{ listen 127.0.0.1:{port}; location / {{
  proxy_pass http://targets; proxy_http_version 1.1; proxy_buffering off;
  proxy_set_header Connection ""; proxy_set_header Authorization "Bearer bench-key";
}} }}
"""
_LUA = """
wrk.method = "POST"
wrk.body = {body}
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout
  io.write(string.format('\\n{{"requests": %d, "duration_us": %d, "errors": %d, "p50_us": %d, "p99_us": %d}}\\n',
    summary.requests, summary.duration, bad, latency:percentile(50), latency:percentile(99)))
end
"""
# A short chat completion, 522 bytes as the OpenAI API answers them.
REPLY = json.dumps(
    {
        "id": "chatcmpl-BqX2b7Yw3Kc8VdT1",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "model-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 28, "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 19, "completion_tokens": 28, "total_tokens": 47},
        "system_fingerprint": "fp_bench",
        "service_tier": "default",
    }
)


@contextlib.contextmanager
def nginx(servers: str, port: int, *, core: int) -> Iterator[int]:
    """nginx in one process with these server blocks: its process id, once it listens on `port`."""
    binary = machine.program("nginx", "nginx-light")
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        path = Path(folder) / "nginx.conf"
        path.write_text(_NGINX.format(folder=folder, servers=servers))
        command = [binary, "-p", folder, "-c", str(path)]
        with machine.running(command, core=core, ready=lambda: machine.listens(port)) as process:
            yield process.pid


@contextlib.contextmanager
def providers(count: int) -> Iterator[list[int]]:
    """So many providers that answer every request with `REPLY`: their ports."""
    ports = [machine.free_port() for _ in range(count)]
    servers = "\n".join(_STATIC.format(port=port, body=REPLY) for port in ports)
    with nginx(servers, ports[0], core=machine.OTHER):
        yield ports


@contextlib.contextmanager
def reverse_proxy(weights: dict[int, int]) -> Iterator[tuple[int, int]]:
    """nginx before providers (port → weight): its process id and its port."""
    port = machine.free_port()
    targets = " ".join(f"server 127.0.0.1:{target} weight={weight};" for target, weight in weights.items())
    with nginx(_REVERSE.format(targets=targets, port=port), port, core=machine.MEASURED) as pid:
        yield pid, port


def wrk(port: int, body: bytes, *, connections: int, seconds: int) -> dict[str, Any]:
    """POST `body` as fast as answers come: requests, duration_us, errors, p50_us, p99_us."""
    binary = machine.program("wrk", "wrk")
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_LUA.format(body=json.dumps(body.decode())))
        command: Sequence[str] = [
            binary, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
            f"http://127.0.0.1:{port}/v1/chat/completions",
        ]  # fmt: skip
        told: dict[str, Any] = json.loads(machine.output_of(command, core=machine.OTHER).splitlines()[-1])
        return told
