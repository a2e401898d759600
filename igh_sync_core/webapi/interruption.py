"""Ends from outside what waits for the source: for a turn, for a rest to be over, for the next piece of a reply."""

from threading import Event, Lock
from weakref import WeakSet


class Interruption:
    """Once set, nobody waits any more who has an event of it: not now, and not later."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._events: WeakSet[Event] = WeakSet()
        self._is_set = False

    @property
    def is_set(self) -> bool:
        """Whether it was set, once and for all."""
        return self._is_set

    def event(self) -> Event:
        """An event that is set with this; its owner may set it earlier, for itself alone."""
        event = Event()
        with self._lock:
            self._events.add(event)
            if self._is_set:
                event.set()
        return event

    def set(self) -> None:
        """Let all waits end with ``Interrupted``; from any thread."""
        with self._lock:
            self._is_set = True
            events = list(self._events)
        for event in events:
            event.set()
