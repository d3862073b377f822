"""What README.md and docs/ show is what happens: each page runs as one script, in a process and a folder of its own.

The script is the page with everything blanked but its code, so line numbers, tracebacks and `inspect.getsource` are
those of the page, and `__main__` has no guard, as in what a reader types. Comments on the line before a block steer it:

- none: a ```` ```python ```` block runs, after those above it, in the same namespace; other blocks are only text;
- ``<!-- run -->``: a ```` ```bash ```` or ```` ```console ```` block runs too (of a console block, its ``$`` lines);
- ``<!-- output -->``: a ```` ```text ```` block equals what the block right above it printed, to the byte;
- ``<!-- no-run: reason -->``: a python block is compiled and not run.

A page runs in an empty folder with a copy of examples/, on a Python whose syntax the docs may use.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Dict, List, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()]

FENCE = re.compile(r"^(?P<indent>\s*)(?P<ticks>`{3,})(?P<language>[\w-]*)[^`]*$")
COMMENT = re.compile(r"^\s*<!--\s*(?P<words>.*?)\s*-->\s*$")
FUTURE = re.compile(r"^from __future__ import .*$", re.MULTILINE)
MARK = "\x1e"  # ASCII's record separator: starts the line that says which block prints from here on


class BadPage(Exception):
    """The page itself is wrong; the message starts with ``line:``."""


class Block(NamedTuple):
    """A fenced block: the line of its opening fence, its language, the comment before it, and its text."""

    line: int
    language: str
    comment: str
    text: str

    @property
    def runs(self) -> bool:
        """A shell block runs when asked to, a python block unless asked not to."""
        if self.language in ("bash", "console"):
            return self.comment == "run"
        return self.language == "python" and not self.comment.startswith("no-run")


def blocks_of(text: str) -> List[Block]:
    """Return the fenced blocks of a page, top to bottom."""
    blocks: List[Block] = []
    comment = ""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        fence = FENCE.match(line)
        if fence:
            body: List[str] = []
            for _, inner in lines:
                if re.match(rf"^\s*{fence['ticks']}`*\s*$", inner):
                    break
                body.append(inner)
            else:
                raise BadPage(f"{number}: this fence is never closed")
            cut = len(fence["indent"])
            body = [inner[cut:] if not inner[:cut].strip() else inner for inner in body]
            blocks.append(Block(number, fence["language"], comment, "".join(inner + "\n" for inner in body)))
        if line.strip():
            words = COMMENT.match(line)
            comment = words["words"] if words else ""
    return blocks


def script_of(blocks: List[Block]) -> str:
    """Return the page as a script: a block keeps its lines, and its fence announces it on stdout."""
    lines: Dict[int, str] = {}
    for above, block in zip([None, *blocks], blocks):
        if block.comment == "output" and not (above and above.runs):
            raise BadPage(f"{block.line}: <!-- output --> has no block right above it that runs")
        if block.language == "python":
            try:
                compile(block.text, "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            except SyntaxError as error:
                line = block.line + (error.lineno or 0)
                raise BadPage(f"{line}: {error.msg}: {(error.text or '').strip()}") from None
            if block.comment.startswith("no-run") and not block.comment[len("no-run") :].strip(": "):
                raise BadPage(f"{block.line}: say why: <!-- no-run: reason -->")
        elif block.comment == "run" and not block.runs:
            raise BadPage(f"{block.line}: <!-- run --> is for bash and console blocks")
        if block.runs:
            lines[block.line] = f"print('{MARK}{block.line}', flush=True)"
            if block.language == "python":
                for number, line in enumerate(block.text.splitlines(), block.line + 1):
                    if FUTURE.match(line):  # legal on the first line of a script only
                        lines[1] = line
                    else:
                        lines[number] = line
            else:
                command = ["bash", "-euo", "pipefail", "-c", shell_of(block)]
                lines[block.line] += f"; __import__('subprocess').run({command!r}, check=True)"
    if lines and FUTURE.match(lines.get(1, "")) and blocks[0].line == 1:
        raise BadPage("1: a page opens with words, not with code")
    return "".join(lines.get(number, "") + "\n" for number in range(1, max(lines, default=0) + 1))


def shell_of(block: Block) -> str:
    if block.language == "bash":
        return block.text
    return "".join(line[2:] + "\n" for line in block.text.splitlines() if line.startswith("$ "))


def check_page(text: str, name: str, folder: Path) -> None:
    """Run a page in `folder`; fail with ``name:line`` and what went wrong there."""
    try:
        blocks = blocks_of(text)
        script = script_of(blocks)
    except BadPage as error:
        pytest.fail(f"{name}:{error}", pytrace=False)
    path = folder / "page.py"
    path.write_text(script, encoding="utf-8")
    beside_python = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=str(folder),
        env={**os.environ, "PATH": beside_python, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    printed: Dict[int, str] = {}
    for part in done.stdout.split(MARK)[1:]:
        number, _, output = part.partition("\n")
        printed[int(number)] = output
    if done.returncode != 0:
        stderr = done.stderr.replace(str(path), name)
        inside = re.findall(rf'File "{re.escape(name)}", line (\d+)', stderr)
        line = inside[0] if inside else max(printed, default=1)
        pytest.fail(f"{name}:{line}: exit {done.returncode}\n{textwrap.indent(stderr, '  ')}", pytrace=False)
    for above, block in zip([None, *blocks], blocks):
        if block.runs and block.line not in printed:
            pytest.fail(f"{name}:{block.line}: a block above ended the process, this one never ran", pytrace=False)
        if block.comment == "output" and printed[above.line] != block.text:
            shown, real = (textwrap.indent(output, "  ") for output in (block.text, printed[above.line]))
            pytest.fail(
                f"{name}:{block.line}: the block at line {above.line} prints something else\n"
                f"shown:\n{shown}\nprinted:\n{real}",
                pytrace=False,
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_tells_the_truth(page, tmp_path):
    if page.name != "README.md" and sys.version_info < (3, 10):
        pytest.skip("the docs behind the README are written in the syntax of Python 3.10")
    if (ROOT / "examples").is_dir():
        shutil.copytree(str(ROOT / "examples"), str(tmp_path / "examples"))
    check_page(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix(), tmp_path)


GOOD = """\
# A page

```python
from __future__ import annotations
def double(x: int | None): return x * 2
if __name__ == "__main__": print(double(2))
```

<!-- output -->
```text
4
```

<!-- run -->
```console
$ echo shell > file.txt
ignored
```

1. In a list:

   ```python
   print(open("file.txt").read(), end="")
   import inspect; print(inspect.getsource(double), end="")
   ```

   <!-- output -->

   ```text
   shell
   def double(x: int | None): return x * 2
   ```

<!-- no-run: needs a network -->
```python
await nothing
```

```bash
exit 1
```
"""


def test_a_true_page_passes(tmp_path):
    check_page(GOOD, "good.md", tmp_path)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("\n```python\nx = 1\n1 / 0\n```\n", "page.md:4: exit 1"),
        ("\n```python\nx = 1\n```\n\n```python\nx = (\n```\n", "page.md:7: "),
        ("\n<!-- no-run: why -->\n```python\nx = = 1\n```\n", "page.md:4: invalid syntax"),
        ("\n<!-- no-run -->\n```python\nx = 1\n```\n", "page.md:3: say why"),
        ("\n<!-- run -->\n```bash\nexit 3\n```\n", "page.md:3: exit 1"),
        ("\n<!-- run -->\n```text\nexit 3\n```\n", "page.md:3: <!-- run --> is for"),
        ("\n```python\nprint(1)\n```\n<!-- output -->\n```text\n1 \n```\n", "page.md:6: the block at line 2 prints"),
        ("\n```bash\ntrue\n```\n<!-- output -->\n```text\n1\n```\n", "page.md:6: <!-- output --> has no block"),
        ("\n```python\nexit()\n```\n\n```python\nx = 1\n```\n", "page.md:6: a block above ended"),
        ("\n```python\nx = 1\n", "page.md:2: this fence is never closed"),
    ],
)
def test_a_false_page_fails(tmp_path, page, message):
    """A checker that passes everything would pass every page; the message starts with where to look."""
    with pytest.raises(pytest.fail.Exception) as failure:
        check_page(page, "page.md", tmp_path)
    assert str(failure.value).startswith(message)
