"""Where in a run something happened, as a value: made once, where that is known, and rendered only to be read."""

from __future__ import annotations

from typing import Optional, Tuple

import attrs


@attrs.frozen
class Location:
    """The pipelines down to a node, and the items of the maps around it.

    Attributes
    ----------
    pipelines : tuple of str
        Names from the outermost pipeline inwards, at least one.
    node : str
        The node, or the map; empty for a whole frame.
    items : tuple of int
        Indices of the items around it, from 0, outermost first; empty outside of maps.
    within : bool
        Whether the first of `pipelines` runs inside a node of another, which is not known yet.
    """

    pipelines: Tuple[str, ...]
    node: str = ""
    items: Tuple[int, ...] = ()
    within: bool = False

    @property
    def pipeline(self) -> str:
        """The names of the pipelines, joined by dots."""
        return ".".join(self.pipelines)

    def below(self, pipelines: Tuple[str, ...] = (), items: Tuple[int, ...] = ()) -> Location:
        """Return that of a frame deeper down."""
        return Location((*self.pipelines, *pipelines), "", (*self.items, *items), self.within)

    def of(self, node: str, pipelines: Tuple[str, ...] = ()) -> Location:
        """Return that of a node of the frame, in the inlined `pipelines`."""
        return Location((*self.pipelines, *pipelines), node, self.items, self.within)

    def inside(self, node: Location) -> Location:
        """Return that of something in a run that is `within`, now that the node is known which it runs in."""
        outer = (*node.pipelines, node.node)
        return Location((*outer, *self.pipelines[1:]), self.node, (*node.items, *self.items), node.within)

    def moved(self, index: int) -> Location:
        """Return it for item `index` of the outermost map."""
        return attrs.evolve(self, items=(index, *self.items[1:]))


def dotted(items: Tuple[int, ...]) -> str:
    """Return ``3.1`` for item 1 of item 3."""
    return ".".join(map(str, items))


class Note(str):
    """Words about a location, which they know: what stands in the notes, and in some texts, of exceptions.

    Parameters
    ----------
    template : str
        Where ``{pipeline}`` stands, the pipeline is named, and for ``{, item}`` and ``{ of item}`` the item, if any.
    location : Location
        Of what is said.
    tail : str, optional
        Words behind it, which are taken as they are.
    """

    template: str
    location: Location
    tail: str

    def __new__(cls, template: str, location: Location, tail: str = "") -> Note:
        """Make the words."""
        text = template.replace("{pipeline}", repr(location.pipeline))
        items = dotted(location.items)
        for before in (", ", " of ", ""):
            text = text.replace("{" + before + "item}", f"{before}item {items}" if items else "")
        note = super().__new__(cls, text + tail)
        note.template, note.location, note.tail = template, location, tail
        return note

    def at(self, location: Location) -> Note:
        """Return the same words about another location."""
        return Note(self.template, location, self.tail)

    def __reduce__(self) -> Tuple[object, ...]:
        return Note, (self.template, self.location, self.tail)


def located(note: object) -> Optional[Location]:
    """Return the location of a note; None for words of somebody else's."""
    return note.location if type(note) is Note else None
