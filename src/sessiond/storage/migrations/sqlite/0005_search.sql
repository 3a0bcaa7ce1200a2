-- What messages are found by. Words stand here as keyed hashes only.

-- 1 while a session may have messages that are not indexed. Set with `updated_slot`, never by an append alone.
alter table sessions add column to_index integer not null default 1;
create index sessions_to_index on sessions (workspace_id, updated_slot, id) where to_index = 1;

-- Who indexes a workspace just now; `version` changes with every change of its index.
create table search_workspaces (
    workspace_id text not null primary key,
    owner text not null,
    until_us integer not null,
    version integer not null,
    next_segment integer not null
) strict, without rowid;

-- Up to where a session is indexed. Not in `sessions`, whose rows appends have in hand.
create table search_progress (
    workspace_id text not null,
    session_id text not null,
    created_at_us integer not null,
    seq integer not null,
    primary key (workspace_id, session_id)
) strict, without rowid;

-- Indexed messages, by a number that grows with the time at which they were said.
create table search_docs (
    workspace_id text not null,
    doc integer not null,
    session_id text not null,
    seq integer not null,
    created_at_us integer not null,
    key_id integer not null,
    primary key (workspace_id, doc)
) strict, without rowid;

create index search_docs_by_session on search_docs (workspace_id, session_id, doc);

-- Which messages have which words: written once, and merged into larger ones. `gone_at_us`: nobody begins to read it.
create table search_segments (
    workspace_id text not null,
    id integer not null,
    key_id integer not null,
    docs integer not null,
    bits integer not null,
    oldest integer not null,
    newest integer not null,
    dirty integer not null,
    gone_at_us integer,
    primary key (workspace_id, id)
) strict, without rowid;

create index search_segments_dirty on search_segments (workspace_id, id) where dirty = 1 and gone_at_us is null;
create index search_segments_gone on search_segments (gone_at_us) where gone_at_us is not null;

create table search_postings (
    workspace_id text not null,
    segment integer not null,
    bucket integer not null,
    entries blob not null,
    primary key (workspace_id, segment, bucket)
) strict;

-- Parts of the names and addresses of sealed sessions, as keyed hashes.
create table search_names (
    workspace_id text not null,
    token integer not null,
    session_id text not null,
    primary key (workspace_id, token, session_id)
) strict, without rowid;

create index search_names_by_session on search_names (workspace_id, session_id, token);
