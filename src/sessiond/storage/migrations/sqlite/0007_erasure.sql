-- Deletion in pieces, erasure, and the receipts that it is answered with.

-- What nobody sees any more, and is removed a piece at a time. While a session is in it, nobody can make another of its
-- id, which would be shown its log.
-- SQLite cannot change what a check allows: the table is made anew.
alter table trash rename to trash_before;
create table trash (
    workspace_id text not null,
    kind text not null check (kind in ('inbox', 'session')),
    id text not null,
    -- The erasure that it is part of.
    erasure_id text,
    primary key (workspace_id, kind, id)
) strict, without rowid;
insert into trash (workspace_id, kind, id) select workspace_id, kind, id from trash_before;
drop table trash_before;

create index trash_of_erasure on trash (workspace_id, erasure_id) where erasure_id is not null;

-- Who was asked to be forgotten. It names nobody: of a user's or a session's id a salted hash is kept.
create table erasures (
    workspace_id text not null,
    id text not null,
    kind text not null check (kind in ('user', 'session')),
    -- The id itself, until all of it is done: a crash in between must not make it forgotten who is to be.
    subject text,
    salt blob not null,
    subject_hash blob not null,
    actor text not null,
    requested_at_us integer not null,
    completed_at_us integer,
    counts blob not null,
    sessions_digest blob not null,
    -- What was signed, and its signature.
    receipt blob,
    signature blob,
    primary key (workspace_id, id),
    check ((subject is null) = (completed_at_us is not null))
) strict;

create unique index erasures_under_way on erasures (workspace_id, kind, subject) where subject is not null;
create index erasures_by_requested on erasures (workspace_id, requested_at_us, id);

-- What a workspace signs its receipts with: Ed25519.
create table signing_keys (
    workspace_id text not null primary key,
    public_key blob not null,
    private_key blob not null,
    created_at_us integer not null
) strict;

-- Copies of a session go with it.
create index sessions_by_parent on sessions (workspace_id, parent) where parent is not null;

-- What a user has beside sessions.
create index inboxes_alone on inboxes (workspace_id, user_id) where session_id is null and user_id is not null;
create index waits_alone on waits (workspace_id, user_id) where session_id is null and user_id is not null;
create index runs_alone on runs (workspace_id, user_id) where session_id is null and user_id is not null;

-- Whom an answer tells of that is kept and tells of no session.
alter table idempotency add column about_user_id text;
create index idempotency_about_user on idempotency (workspace_id, about_user_id) where about_user_id is not null;
