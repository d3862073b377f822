"""The picture of a plan has its waves, bundles, steps, maps and values, and no name can break it."""

from __future__ import annotations

import re

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.views.mermaid import escape


@node(output_name="text")
def load(path: str) -> str:
    return path


@node(output_name=("head", "tail"))
def split(text: str) -> tuple:
    return text, text


@node(output_name="fetched")
async def fetch(text: str) -> str:
    return text


@node(output_name="result")
def join(head: str, tail: str, fetched: str) -> str:
    return head


flat = Pipeline(nodes=[load, split, fetch, join], name="flat")
mapped = Pipeline(nodes=[flat.as_node(map_over="paths", input_mapping={"paths": "path"}, name="each")], name="mapped")
THREADED = LocalBackend(node_execution="threaded", map_execution="threaded", max_workers=8)

FLAT = """\
---
title: "plan flat: nodes threaded, items threaded, max_workers 8"
config:
  flowchart:
    subGraphTitleMargin:
      top: 2
      bottom: 24
---
flowchart TD
  n0(["<b>path</b>"])
  subgraph g1["wave 0"]
    subgraph g2["bundle 0 #91;thread#93;"]
      n3["<b>load</b><br/>text"]
    end
  end
  subgraph g4["wave 1"]
    subgraph g5["bundle 1 #91;thread#93;"]
      n6["<b>split</b><br/>head, tail<br/><small>the last of 1, 2 frees text</small>"]
    end
    subgraph g7["bundle 2 #91;loop#93;"]
      n8["await <b>fetch</b><br/>fetched<br/><small>the last of 1, 2 frees text</small>"]
    end
  end
  subgraph g9["wave 2"]
    subgraph g10["bundle 3 #91;thread#93;"]
      n11["<b>join</b><br/>result<br/><small>at the end free head, tail, fetched</small>"]
    end
  end
  n12(["<b>return</b><br/>result"])
  n13["<b>thread</b>: threaded nodes<br/><b>loop</b>: a coroutine function"]
  n12 ~~~ n13
  n0 --> n3
  n3 -->|"text"| n6
  n3 -->|"text"| n8
  n6 -->|"head, tail"| n11
  n8 -->|"fetched"| n11
  n11 -->|"result"| n12
"""


def test_a_plan_is_drawn_in_waves():
    drawn = flat.plan(output_name="result", backend=THREADED).to_mermaid()
    assert drawn.startswith(FLAT)
    styles = drawn[len(FLAT) :].splitlines()
    assert "  class g2,g5,g10 thread" in styles
    assert "  class g7 loop" in styles
    assert "  class n3,n6,n8,n11 step" in styles
    assert drawn == flat.plan(output_name="result", backend=THREADED).to_mermaid()


def test_a_map_is_a_box_with_its_width():
    drawn = mapped.plan(output_name="result", backend=THREADED).to_mermaid()
    assert '["bundle 0 #91;frames#93; map zip each<br/>width min(8, items)"]' in drawn
    assert "<b>map</b>: width min(8, items) (depth 0: max_workers=8)" in drawn
    (port,) = re.findall(r'(n\d+)\(\["<b>path</b><br/>in paths"\]\)', drawn)
    assert f"n0 --> {port}" in drawn


def test_a_width_is_a_number_when_the_items_are_known():
    drawn = flat.plan(map_over="path", n=3, backend=THREADED).to_mermaid()
    assert "width 3" in drawn


def test_a_map_within_a_bundle_stays_in_it():
    drawn = mapped.plan(output_name="result", backend=LocalBackend()).to_mermaid()
    assert '["bundle 0 #91;inline#93; map zip each<br/>width 1"]' in drawn
    more = Pipeline(nodes=[mapped, node(output_name="n", name="count")(lambda result: 1)], name="more")
    assert re.search(
        r'bundle 0 #91;inline#93;"\]\n +subgraph g\d+\["map zip mapped#46;each<br/>', more.plan().to_mermaid()
    )


def test_a_hosted_frame_is_a_box_with_its_payload():
    backend = LocalBackend(node_execution="async", map_execution="parallel", max_workers=2)
    drawn = mapped.plan(output_name="result", backend=backend).to_mermaid()
    assert "bundle 0 #91;process#93; host flat<br/>nodes async of its own" in drawn
    assert re.search(r"<small>payload \d+ bytes</small>", drawn)


@pytest.mark.parametrize("nodes", ["sequential", "async", "threaded", "parallel"])
@pytest.mark.parametrize("items", ["sequential", "async", "threaded", "parallel"])
def test_boxes_close_and_arrows_join_what_is_drawn(nodes, items):
    backend = LocalBackend(node_execution=nodes, map_execution=items, max_workers=4)
    deep = Pipeline(nodes=[mapped.as_node(map_over="folders", input_mapping={"folders": "paths"})], name="deep")
    lines = [line.strip() for line in deep.plan(backend=backend).to_mermaid().splitlines()]
    assert sum(line.startswith("subgraph ") for line in lines) == lines.count("end")
    drawn = {match.group(1) for match in (re.match(r"(n\d+)[\[(]", line) for line in lines) if match}
    ends = [re.match(r"(n\d+) (?:-->|~~~)(?:\|.*\|)? ?(n\d+)$", line) for line in lines]
    joined = {name for match in ends if match for name in match.groups()}
    assert joined <= drawn
    assert len(drawn) == len([line for line in lines if re.match(r"n\d+[\[(]", line)])


HOSTILE = 'a"]; end --> x[*_b_*`<script>&#35; 1. - | \n%%{init'


def test_no_name_can_break_out_of_its_quotes():
    assert re.fullmatch(r"[\w ,:=()+%]*", re.sub(r"#\d+;", "", escape(HOSTILE)))
    nodes = [node(output_name="b", name=HOSTILE)(lambda a: a)]
    drawn = Pipeline(nodes=nodes, name='p: "q"\n---').plan().to_mermaid()
    assert drawn.splitlines()[1] == 'title: "plan p: \\"q\\"\\n---: nodes sequential, items sequential, max_workers 1"'
    assert f"<b>{escape(HOSTILE)}</b>" in drawn
    assert "<script" not in drawn


def test_a_plan_with_nothing_to_run_is_drawn():
    drawn = Pipeline(nodes=[load], name="p").plan(inputs=["text"], output_name="text").to_mermaid()
    assert "nothing to run" in drawn
