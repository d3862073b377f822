"""A map over URLs: addresses in, what is known of each page out, fetched one by one, on an event loop and on threads.

The pages come from an HTTP server on this machine, which the example starts and which takes its time over each, as a
server far away would. Two pipelines fetch them: one with a coroutine (`async def`, asyncio streams), one with a plain
function (urllib). Both run in every item mode; the coroutine is the same code in all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import re
import threading
import time
import urllib.request
from urllib.parse import urlsplit

from hypernodes import LocalBackend, Pipeline, node

MODES = ("sequential", "async", "threaded", "parallel")

# ---- the pipelines ---------------------------------------------------------------------------------------------------


@node(output_name="page")
async def fetch(url: str) -> str:
    """Get a page without holding a thread while it waits."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode("ascii"))
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].decode("ascii", "replace")
    if " 200 " not in f"{status} ":
        raise OSError(f"{url} answered {status!r}")
    return body.decode("utf-8")


@node(output_name="page", name="fetch")
def fetch_plainly(url: str) -> str:
    """Get a page and hold a thread until it is there."""
    with urllib.request.urlopen(url) as response:
        return response.read().decode("utf-8")


@node(output_name="title")
def find_title(page: str) -> str:
    found = re.search("<title>(.*?)</title>", page)
    return found.group(1) if found else ""


@node(output_name="links")
def count_links(page: str) -> int:
    return len(re.findall("<a ", page))


def pages_with(fetcher) -> Pipeline:
    return Pipeline(nodes=[fetcher, find_title, count_links], name="pages")


# ---- the server ------------------------------------------------------------------------------------------------------


class SlowPages(http.server.BaseHTTPRequestHandler):
    """Answers ``/N`` with page N, after a while."""

    delay = 0.05

    def do_GET(self) -> None:
        time.sleep(self.delay)
        number = int(self.path.strip("/"))
        links = "".join(f'<a href="/{linked}">{linked}</a>' for linked in range(number % 7))
        page = f"<html><title>Page {number}</title>{links}</html>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *args: object) -> None:
        """Keep the terminal for the table."""


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024  # the connections of a whole map may arrive at once
    daemon_threads = True


# ---- the command -----------------------------------------------------------------------------------------------------

parser = argparse.ArgumentParser(description="Fetch pages in each item mode.")
parser.add_argument("--pages", type=int, default=60, help="how many to fetch (default: %(default)s)")
parser.add_argument("--delay", type=float, default=0.05, help="seconds that the server waits (default: %(default)s)")
parser.add_argument("--workers", type=int, default=20, help="pages in flight at once (default: %(default)s)")
parser.add_argument("--smoke", action="store_true", help="a few pages, to see that it works")
options = parser.parse_args()
if options.smoke:
    options.pages, options.delay, options.workers = 8, 0.01, 4
SlowPages.delay = options.delay

server = Server(("127.0.0.1", 0), SlowPages)
threading.Thread(target=server.serve_forever, daemon=True).start()
urls = [f"http://127.0.0.1:{server.server_port}/{number}" for number in range(options.pages)]

pipelines = {"async def": pages_with(fetch), "def": pages_with(fetch_plainly)}
shown = LocalBackend(map_execution="async", max_workers=options.workers)
print(pipelines["async def"].plan(map_over="url", backend=shown))
print(f"\nfetch      items       workers  seconds  pages/s    ({options.pages} pages, {options.delay} s each)")
expected = None
for kind, pipeline in pipelines.items():
    for mode in MODES:
        # More processes than cores gain nothing for work; for waiting they would, at the price of their memory.
        workers = min(4, options.workers) if mode == "parallel" else options.workers
        with LocalBackend(map_execution=mode, max_workers=workers) as backend:
            pipeline.backend = backend
            pipeline.map(inputs={"url": urls[:workers]}, map_over="url")  # starts the workers, once
            start = time.perf_counter()
            result = pipeline.map(inputs={"url": urls}, map_over="url", output_name=["title", "links"])
            seconds = time.perf_counter() - start
        expected = expected or result
        if result != expected:
            raise SystemExit(f"{kind}, items {mode}: fetched something else")
        print(f"{kind:<10} {mode:<11} {workers:>7} {seconds:>8.2f} {len(urls) / seconds:>8.0f}")
server.shutdown()
server.server_close()
print(f"\nall agree; the last page is {expected.rows()[-1]}")
