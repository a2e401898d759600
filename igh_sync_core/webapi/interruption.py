"""Ends from outside what waits for the source: for a turn, for a rest to be over, for a reply or its next piece."""

import contextlib
from socket import SHUT_RDWR, socket
from threading import Event, Lock
from weakref import WeakSet


class Interruption:
    """Once set, nobody waits any more who has an event of it: not now, and not later."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._events: WeakSet[Event] = WeakSet()
        self._lines: WeakSet[socket] = WeakSet()
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

    def attend(self, line: socket) -> None:
        """Shut a connection down when this is set, so that whoever waits for its other end is woken."""
        with self._lock:
            self._lines.add(line)
            if self._is_set:
                _shut_down(line)

    def set(self) -> None:
        """Let all waits end with ``Interrupted``; from any thread."""
        with self._lock:
            self._is_set = True
            events, lines = list(self._events), list(self._lines)
        for event in events:  # first, so that those who are woken find it set
            event.set()
        for line in lines:
            _shut_down(line)


def _shut_down(line: socket) -> None:
    # A socket of TLS would first forget its keys: what another thread sends just then would leave in clear.
    with contextlib.suppress(OSError):  # closed already
        socket.shutdown(line, SHUT_RDWR)
