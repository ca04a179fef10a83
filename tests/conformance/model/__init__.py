"""A small framework that keeps every clause, and breaks exactly the one it is told to.

``Model(fault="capsule.renamed-on-consumption")`` is a subject with that one mistake; the
fault is the id of the clause, with ``@consumer`` where a clause binds both sides and the
mistake is the consumer's.
"""

from .subject import Model

__all__ = ["Model"]
