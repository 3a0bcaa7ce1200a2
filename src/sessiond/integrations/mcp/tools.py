"""The tools: what each takes, does and says. Who calls them, and how that gets here, is for `stdio` and `wire`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

try:
    from mcp import MCPError, types
    from mcp.server import Server, ServerRequestContext
except ModuleNotFoundError as error:
    raise ImportError("the Model Context Protocol needs: pip install 'sessiond[mcp]'") from error

from sessiond import __version__
from sessiond.client import AsyncClient, Message, SessiondError

Limit = Annotated[int, Meta(ge=1, le=100)]
Context = ServerRequestContext[Any, Any]

READS: Final = frozenset({"sessions:read"})
WRITES: Final = frozenset({"sessions:write"})
_ABOUT: Final = (
    "sessiond keeps the sessions of AI agents: conversations with everything that happened in them. Find one with"
    " list_sessions or search_messages, and read it with read_transcript."
)


class ListSessions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """List sessions, the newest first: ids, names, status, number of messages. `cursor` is where the last answer
    ended."""

    agent_id: str | None = None
    user_id: str | None = None
    status: Annotated[str, Meta(pattern="^(created|active|paused|completed|failed)$")] | None = None
    limit: Limit = 20
    cursor: str | None = None


class SearchMessages(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Find messages that have all words of the query, and its phrases in quotation marks, the newest first."""

    query: Annotated[str, Meta(min_length=1)]
    session_id: str | None = None
    limit: Limit = 20
    cursor: str | None = None


class ReadTranscript(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read the messages of a session, the oldest first: the last ones, or those before the number `before`."""

    session_id: str
    last: Limit = 50
    before: Annotated[int, Meta(ge=1)] | None = None


class CreateSession(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Create a session, to append to."""

    name: str | None = None
    agent_id: str | None = None
    user_id: str | None = None


class AppendMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Append a message to a session. A user's message starts a run of the session's agent, where one is registered."""

    session_id: str
    content: Annotated[str, Meta(min_length=1)]
    role: Annotated[str, Meta(pattern="^(user|assistant|system)$")] = "user"


class CreateInbox(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make an inbox with an e-mail address, for a code or a link to be sent to."""

    session_id: str | None = None
    purpose: str | None = None
    ttl_seconds: Annotated[int, Meta(ge=1)] = 3600


class WaitForCode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Wait for a mail with a code to an inbox, and return the code. One that has come already counts, unless `new` is
    set."""

    inbox_id: str
    sender: str | None = None
    new: bool = False
    timeout_seconds: Annotated[float, Meta(gt=0, le=300)] = 60.0


async def _list_sessions(client: AsyncClient, asked: ListSessions) -> dict[str, Any]:
    page = await client.sessions.list(
        agent_id=asked.agent_id,
        user_id=asked.user_id,
        status=asked.status,
        limit=asked.limit,
        cursor=asked.cursor,
        include_total=True,
    )
    found = [
        {
            "id": session.id,
            "name": session.name,
            "status": session.status,
            "agent_id": session.agent_id,
            "user_id": session.user_id,
            "messages": session.message_count,
            "created_at": session.created_at,
            "last_active_at": session.last_active_at,
        }
        for session in page.data
    ]
    return {"sessions": found, "total": page.total, "cursor": page.next_cursor}


async def _search_messages(client: AsyncClient, asked: SearchMessages) -> dict[str, Any]:
    page = await client.messages.search(
        asked.query, session_id=asked.session_id, limit=asked.limit, cursor=asked.cursor
    )
    found = [
        {
            "session_id": hit.session_id,
            "number": hit.seq,
            "role": hit.role,
            "snippet": hit.snippet,
            "at": hit.created_at,
        }
        for hit in page.data
    ]
    return {"messages": found, "cursor": page.next_cursor}


async def _read_transcript(client: AsyncClient, asked: ReadTranscript) -> dict[str, Any]:
    session = await client.sessions.get(asked.session_id)
    page = await client.messages.list(asked.session_id, before=asked.before, order="desc", limit=asked.last)
    messages = [
        {"number": message.seq, "role": message.role, "text": text_of(message), "at": message.created_at}
        for message in reversed(page.data)
    ]
    before = page.data[-1].seq if page.next_cursor is not None else None
    return {"session": {"id": session.id, "name": session.name, "status": session.status}, "messages": messages} | (
        {"earlier": {"before": before}} if before is not None else {}
    )


async def _create_session(client: AsyncClient, asked: CreateSession) -> dict[str, Any]:
    session = await client.sessions.create(name=asked.name, agent_id=asked.agent_id, user_id=asked.user_id)
    return {"id": session.id, "status": session.status}


async def _append_message(client: AsyncClient, asked: AppendMessage) -> dict[str, Any]:
    message = await client.messages.append(asked.session_id, asked.content, role=asked.role)  # type: ignore[arg-type]  # checked by its pattern
    return {"number": message.seq, "run_id": message.run_id}


async def _create_inbox(client: AsyncClient, asked: CreateInbox) -> dict[str, Any]:
    inbox = await client.inboxes.create(
        session_id=asked.session_id, purpose=asked.purpose, ttl_seconds=asked.ttl_seconds
    )
    return {"id": inbox.id, "address": inbox.address, "expires_at": inbox.expires_at}


async def _wait_for_code(client: AsyncClient, asked: WaitForCode) -> dict[str, Any]:
    # Whoever asks somebody for a code calls this after that, and the mail may be faster.
    since = None if asked.new else (await client.inboxes.get(asked.inbox_id)).created_at
    found = await client.waits.wait_for_otp(
        asked.inbox_id, sender=asked.sender, since=since, timeout_seconds=asked.timeout_seconds
    )
    return {"code": found.value, "from": found.sender, "subject": found.subject, "received_at": found.received_at}


class Tool(Struct, frozen=True):
    """A tool: its name is what it takes in snake case."""

    takes: type[Struct]
    does: Callable[[AsyncClient, Any], Awaitable[dict[str, Any]]]
    scopes: frozenset[str]
    """What a key must have for it."""

    def describe(self) -> types.Tool:
        schema = msgspec.json.schema(self.takes)
        schema = schema["$defs"][self.takes.__name__]
        about = " ".join(schema.pop("description").split())
        schema.pop("title", None)
        hints = types.ToolAnnotations(
            read_only_hint=self.scopes == READS, destructive_hint=False, open_world_hint=False
        )
        return types.Tool(name=_name(self.takes), description=about, input_schema=schema, annotations=hints)


def _name(kind: type) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__)[1:]


TOOLS: Final = {
    _name(tool.takes): tool
    for tool in (
        Tool(ListSessions, _list_sessions, READS),
        Tool(SearchMessages, _search_messages, READS),
        Tool(ReadTranscript, _read_transcript, READS),
        Tool(CreateSession, _create_session, WRITES),
        Tool(AppendMessage, _append_message, WRITES),
        Tool(CreateInbox, _create_inbox, WRITES),
        Tool(WaitForCode, _wait_for_code, READS | WRITES),
    )
}


def make_server(client_of: Callable[[Context], AsyncClient]) -> Server[Any]:
    """Return the server; `client_of` says in whose name a request is done. A key is shown the tools that it may use."""

    async def list_tools(context: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        try:
            me = await client_of(context).keys.me()
        except SessiondError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from error
        return types.ListToolsResult(
            tools=[tool.describe() for tool in TOOLS.values() if tool.scopes <= set(me.scopes)]
        )

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            return _refused(f"there is no tool {params.name!r}; there are {', '.join(TOOLS)}")
        try:
            asked = msgspec.convert(params.arguments or {}, tool.takes)
            result = await tool.does(client_of(context), asked)
        except msgspec.ValidationError as error:
            return _refused(f"{params.name}: {error}")
        except SessiondError as error:
            return _refused(str(error))
        said = msgspec.json.encode(result)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=said.decode())], structured_content=msgspec.json.decode(said)
        )

    return Server(
        "sessiond", version=__version__, instructions=_ABOUT, on_list_tools=list_tools, on_call_tool=call_tool
    )


def text_of(message: Message) -> str:
    """Return what a message says, in words: of its parts the text, and of others what kind they are."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(_texts(message.content))


def _texts(parts: Iterable[dict[str, Any]]) -> Iterable[str]:
    for part in parts:
        text = part.get("text")
        yield text if isinstance(text, str) else f"[{part.get('type', 'part')}]"


def _refused(reason: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=reason)], is_error=True)
