"""The servers under load: our fake provider, the gateway, and nginx to compare with."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.load import CONNECTIONS
from benchmarks.process import Served, free_port, serving
from benchmarks.upstream import Pace

FARTHING = (sys.executable, "-c", "from farthing.cli import main; main()")
"""The `farthing` command under this very interpreter."""

_GATEWAY = """
[server]
port = {port}

[ledger]
path = "{home}/ledger"

[upstreams.bench]
kind = "http"
provider = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
models = ["*"]
"""

_NGINX = """
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_max_body_size 20m;
  client_body_buffer_size 256k;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  upstream provider {{
    server 127.0.0.1:{upstream};
    keepalive {connections};
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


class Scene(msgspec.Struct, frozen=True):
    """The servers of one measurement; `nginx` is None where it is not installed."""

    upstream: Served
    gateway: Served
    nginx: Served | None
    home: Path


@contextlib.contextmanager
def scene(pace: Pace = Pace()) -> Iterator[Scene]:  # noqa: B008 - frozen
    """Fresh servers with an empty ledger and an empty cache, gone at the end."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farthing-bench-")))
        provider = stack.enter_context(_upstream(home, pace))
        gateway = stack.enter_context(_gateway(home, provider.port))
        nginx = stack.enter_context(_nginx(home, provider.port)) if shutil.which("nginx") else None
        yield Scene(provider, gateway, nginx, home)


def _upstream(home: Path, pace: Pace) -> contextlib.AbstractContextManager[Served]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", f"--port={port}"]
    command += [f"--chunks={pace.chunks}", f"--interval={pace.interval}"]
    return serving("the fake provider", port, command, home / "upstream.log")


def _gateway(home: Path, upstream: int) -> contextlib.AbstractContextManager[Served]:
    port = free_port()
    config = home / "farthing.toml"
    config.write_text(_GATEWAY.format(port=port, home=home, upstream=upstream))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    return serving("the gateway", port, [*FARTHING, "up", "--config", str(config)], home / "gateway.log", clean)


def _nginx(home: Path, upstream: int) -> contextlib.AbstractContextManager[Served]:
    port = free_port()
    config = home / "nginx.conf"
    config.write_text(_NGINX.format(port=port, home=home, upstream=upstream, connections=CONNECTIONS))
    return serving("nginx", port, ["nginx", "-p", str(home), "-c", str(config)], home / "nginx.log")
