"""Pictures that threads read while the model works on others; as many in memory as are read at a time, and one more each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from dao.errors import DataError
from dao.runtime.backends import Image

EACH = 2  # pictures that a thread has read, or reads


def read_ahead(
    names: Sequence[str], read: Callable[[str], Image], threads: int
) -> Iterator[tuple[str, Image | DataError]]:
    """Each name with its pixels, in their order, or with the reason why there are none. A thread less than 1 reads as it goes."""
    if threads < 1:
        yield from ((name, _tried(read, name)) for name in names)
        return
    waiting: deque[tuple[str, Future[Image | DataError]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        try:
            for name in names:
                waiting.append((name, pool.submit(_tried, read, name)))
                if len(waiting) >= EACH * threads:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:  # whoever stops listening waits for no picture that has not been begun
            for _, future in waiting:
                future.cancel()


def _tried(read: Callable[[str], Image], name: str) -> Image | DataError:
    try:
        return read(name)
    except DataError as error:
        return error
