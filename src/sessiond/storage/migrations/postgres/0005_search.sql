-- What messages are found by. Words stand here as keyed hashes only.

-- 1 while a session may have messages that are not indexed. Set with `updated_slot`, never by an append alone.
alter table sessions add column to_index bigint not null default 1;
create index sessions_to_index on sessions (workspace_id, updated_slot, id) where to_index = 1;

-- Who indexes a workspace just now; `version` changes with every change of its index.
create table search_workspaces (
    workspace_id text collate "C" not null primary key,
    owner text collate "C" not null,
    until_us bigint not null,
    version bigint not null,
    next_segment bigint not null
);

-- Up to where a session is indexed. Not in `sessions`, whose rows appends have in hand.
create table search_progress (
    workspace_id text collate "C" not null,
    session_id text collate "C" not null,
    created_at_us bigint not null,
    seq bigint not null,
    primary key (workspace_id, session_id)
);

-- Indexed messages, by a number that grows with the time at which they were said.
create table search_docs (
    workspace_id text collate "C" not null,
    doc bigint not null,
    session_id text collate "C" not null,
    seq bigint not null,
    created_at_us bigint not null,
    key_id bigint not null,
    primary key (workspace_id, doc)
);

create index search_docs_by_session on search_docs (workspace_id, session_id, doc);

-- Which messages have which words: written once, and merged into larger ones. `gone_at_us`: nobody begins to read it.
create table search_segments (
    workspace_id text collate "C" not null,
    id bigint not null,
    key_id bigint not null,
    docs bigint not null,
    bits bigint not null,
    oldest bigint not null,
    newest bigint not null,
    dirty bigint not null,
    gone_at_us bigint,
    primary key (workspace_id, id)
);

create index search_segments_dirty on search_segments (workspace_id, id) where dirty = 1 and gone_at_us is null;
create index search_segments_gone on search_segments (gone_at_us) where gone_at_us is not null;

create table search_postings (
    workspace_id text collate "C" not null,
    segment bigint not null,
    bucket bigint not null,
    entries bytea not null,
    primary key (workspace_id, segment, bucket)
);

-- Parts of the names and addresses of sealed sessions, as keyed hashes.
create table search_names (
    workspace_id text collate "C" not null,
    token bigint not null,
    session_id text collate "C" not null,
    primary key (workspace_id, token, session_id)
);

create index search_names_by_session on search_names (workspace_id, session_id, token);

-- Hashes do not get smaller.
alter table search_postings alter column entries set storage external;
