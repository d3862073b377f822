"""Objects in, bytes that another process can read out, and back.

What the other process can import, and would import as it is here, goes by reference, as a name; everything else goes by
value. `modules` tells the two apart, `pickler` does it, `standins` are what is made over there in place of what has no
pickle, `classes` makes each class once, `variables` names context variables, and `culprit` finds the part of a value
that cannot go at all.
"""

from hypernodes.pickling.pickler import culprit, dumps, is_plain, loads, reduced_alone

__all__ = ["culprit", "dumps", "is_plain", "loads", "reduced_alone"]
