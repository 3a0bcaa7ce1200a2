"""How one definition of a call becomes a method of both clients.

A call is a function that returns a `Call`. As a `Method` of a class it is sent: by `Sync` resources, which return the
result, and by `Async` ones, which return a coroutine of it. `Iterated` goes through all pages of a list.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import wraps
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, overload

from sessiond.client.call import Call, Page, Response, T

P = ParamSpec("P")
R = TypeVar("R")

PAGE: Final = 100  # what an iterator asks for at once, unless told; searches answer no more


class Opened(Protocol):
    """A stream that has begun; of a refusal the response has the body."""

    @property
    def response(self) -> Response: ...

    @property
    def chunks(self) -> Iterator[bytes]: ...


class AsyncOpened(Protocol):
    """A stream that has begun; of a refusal the response has the body."""

    @property
    def response(self) -> Response: ...

    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


class Carrier(Protocol):
    """Sends calls, and returns what their answers mean."""

    def send(self, call: Call[T]) -> T: ...

    def open_stream(self, call: Call[Any]) -> AbstractContextManager[Opened]: ...


class AsyncCarrier(Protocol):
    """Sends calls, and returns what their answers mean."""

    async def send(self, call: Call[T]) -> T: ...

    def open_stream(self, call: Call[Any]) -> AbstractAsyncContextManager[AsyncOpened]: ...


class Sync:
    """Calls of a `Client`."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier


class Async:
    """Calls of an `AsyncClient`."""

    def __init__(self, carrier: AsyncCarrier) -> None:
        self._carrier = carrier


class Method(Generic[P, T]):
    """A call, as a method."""

    def __init__(self, make: Callable[P, Call[T]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, resource: None, owner: type | None = None) -> Callable[P, Call[T]]: ...
    @overload
    def __get__(self, resource: Sync, owner: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, resource: Async, owner: type | None = None) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, resource: Sync | Async | None, owner: type | None = None) -> Any:
        make = self._make
        if resource is None:
            return make
        if isinstance(resource, Sync):
            carrier = resource._carrier

            @wraps(make)
            def method(*args: P.args, **kwargs: P.kwargs) -> T:
                return carrier.send(make(*args, **kwargs))

            resource.__dict__[self._name] = method  # the next time it is found there
            return method
        async_carrier = resource._carrier

        @wraps(make)
        async def async_method(*args: P.args, **kwargs: P.kwargs) -> T:
            return await async_carrier.send(make(*args, **kwargs))

        resource.__dict__[self._name] = async_method
        return async_method


class Iterated(Generic[P, R]):
    """A call of a list, as an iterator over all of it: page after page is read, each when it is needed."""

    def __init__(self, make: Callable[P, Call[Page[R]]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, resource: None, owner: type | None = None) -> Callable[P, Call[Page[R]]]: ...
    @overload
    def __get__(self, resource: Sync, owner: type | None = None) -> Callable[P, Iterator[R]]: ...
    @overload
    def __get__(self, resource: Async, owner: type | None = None) -> Callable[P, AsyncIterator[R]]: ...

    def __get__(self, resource: Sync | Async | None, owner: type | None = None) -> Any:
        make = self._make
        if resource is None:
            return make
        if isinstance(resource, Sync):
            carrier = resource._carrier

            @wraps(make)
            def iterator(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
                call: Call[Page[R]] | None = make(*args, **kwargs).of_pages(PAGE)
                while call is not None:
                    page = carrier.send(call)
                    yield from page.data
                    call = call.at(page.next_cursor) if page.next_cursor is not None else None

            return iterator
        async_carrier = resource._carrier

        @wraps(make)
        async def async_iterator(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
            call: Call[Page[R]] | None = make(*args, **kwargs).of_pages(PAGE)
            while call is not None:
                page = await async_carrier.send(call)
                for each in page.data:
                    yield each
                call = call.at(page.next_cursor) if page.next_cursor is not None else None

        return async_iterator
