-- Keys that content is sealed with.

-- A workspace's key (`server`: wrapped by the master key; `client`: by what a client holds), or the key of a session's
-- content, wrapped by its parent. Without its row here, what was sealed with a key cannot be read by anybody.
create table seal_keys (
    workspace_id text not null,
    id integer not null,
    kind text not null check (kind in ('server', 'client', 'content')),
    parent_id integer,
    session_id text,
    wrapped blob not null,
    -- Of a client's key only.
    salt blob,
    verifier blob,
    created_at_us integer not null,
    primary key (workspace_id, id),
    check ((kind = 'content') = (parent_id is not null))
) strict;

create index seal_keys_by_parent on seal_keys (workspace_id, parent_id) where parent_id is not null;
create index seal_keys_by_session on seal_keys (workspace_id, session_id) where session_id is not null;

-- The key that new content gets; null: it is kept in plain text.
alter table workspaces add column key_id integer;
-- 1 while some content may still be kept in another way than new content is.
alter table workspaces add column key_changing integer not null default 0;
create index seal_keys_of_clients on seal_keys (workspace_id) where kind = 'client';

-- The key of a session's content; null: it is kept in plain text.
alter table sessions add column key_id integer;
-- Events up to this one may still be kept in another way; null: none are.
alter table sessions add column resealing_seq integer;
-- Name, user name, e-mail, metadata, data and prompt of a sealed session, together.
alter table session_details add column sealed blob;

-- The key of the session, or, of what has none, that of the workspace.
alter table runs add column key_id integer;
create index runs_by_key on runs (workspace_id, key_id) where key_id is not null;
alter table inboxes add column key_id integer;
alter table mails add column key_id integer;
alter table waits add column key_id integer;

-- Answers that are kept go with the session that they tell of.
alter table idempotency add column session_id text;
create index idempotency_by_session on idempotency (workspace_id, session_id) where session_id is not null;

-- Metadata of sealed sessions is kept hashed, under an empty key. Nobody can tell what is to be removed with a session
-- that cannot be opened; so it is found by the session.
create index session_metadata_hashed on session_metadata (workspace_id, session_id) where key = '';
