"""What became of the prompts that ran: in memory only, the newest 10,000."""

from typing import Any, TypeAlias

from comfy_worker.simulator.prompt_queue import QueueItem

HistoryEntry: TypeAlias = dict[str, Any]
"""{prompt, outputs, status: {status_str, completed, messages}, meta}: recording 02."""

HISTORY_LIMIT = 10_000


class History:
    """History entries by prompt id, oldest first.

    A second run under the same id takes the place of the first (recording 11).
    """

    def __init__(self, limit: int = HISTORY_LIMIT) -> None:
        self._entries: dict[str, HistoryEntry] = {}
        self._limit = limit

    def put(self, item: QueueItem, outcome: HistoryEntry) -> None:
        """Record the outcome ({outputs, status, meta}) of a prompt.

        The oldest entry goes when the history is *above* its limit, so it holds one entry more
        than the limit says (recording 21).
        """
        if len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]
        self._entries[item[1]] = {"prompt": list(item), **outcome}

    def get(self, prompt_id: str) -> dict[str, HistoryEntry]:
        """Return {prompt id: entry}, or {} when the id is unknown."""
        entry = self._entries.get(prompt_id)
        return {} if entry is None else {prompt_id: entry}

    def page(self, max_items: int | None = None, offset: int = -1) -> dict[str, HistoryEntry]:
        """Return at most `max_items` entries from `offset` on; a negative offset means the newest.

        Odd values answer as recorded: max_items of 0 or less gives {} (recording 11).
        """
        entries = list(self._entries.items())
        if max_items is None:
            return dict(entries[max(offset, 0) :])
        start = offset if offset >= 0 else max(len(entries) - max_items, 0)
        return dict(entries[start : start + max(max_items, 0)])

    def delete(self, prompt_id: object) -> None:
        """Forget an entry, if there is one."""
        if isinstance(prompt_id, str):
            self._entries.pop(prompt_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
