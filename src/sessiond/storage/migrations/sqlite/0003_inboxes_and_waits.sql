-- Inboxes and their mails, waits, and what is to be removed.

create table inboxes (
    workspace_id text not null,
    id text not null,
    session_id text,
    user_id text,
    address text not null unique,
    purpose text,
    metadata blob,
    actor text not null,
    mail_count integer not null,
    mail_bytes integer not null,
    created_at_us integer not null,
    expires_at_us integer,
    expired_at_us integer,
    primary key (workspace_id, id)
) strict;

create index inboxes_by_created on inboxes (workspace_id, created_at_us, id);
create index inboxes_by_session on inboxes (workspace_id, session_id, created_at_us, id) where session_id is not null;
create index inboxes_expiring on inboxes (expires_at_us) where expires_at_us is not null and expired_at_us is null;
create index inboxes_expired on inboxes (workspace_id, expired_at_us) where expired_at_us is not null;

create table mails (
    workspace_id text not null,
    id text not null,
    inbox_id text not null,
    session_id text,
    user_id text,
    received_at_us integer not null,
    size integer not null,
    envelope blob not null,
    extractions blob not null,
    primary key (workspace_id, id)
) strict;

create index mails_by_inbox on mails (workspace_id, inbox_id, received_at_us, id);

-- What is wide of a mail.
create table mail_contents (
    workspace_id text not null,
    mail_id text not null,
    content blob not null,
    raw blob not null,
    primary key (workspace_id, mail_id)
) strict;

create table waits (
    workspace_id text not null,
    id text not null,
    session_id text,
    inbox_id text,
    run_id text,
    user_id text,
    type text not null,
    status text not null check (status in ('pending', 'completed', 'timed_out', 'cancelled')),
    critical integer not null check (critical in (0, 1)),
    terms blob not null,
    result blob,
    reason text,
    actor text not null,
    created_at_us integer not null,
    times_out_at_us integer,
    ended_at_us integer,
    -- When somebody must look at it: when it times out, or at once because its session's log has grown.
    due_at_us integer,
    -- SHA-256 of what stands in the URL that completes it.
    hook_hash blob unique,
    primary key (workspace_id, id),
    check ((status = 'pending') = (ended_at_us is null))
) strict;

create index waits_by_created on waits (workspace_id, created_at_us, id);
create index waits_by_session on waits (workspace_id, session_id, created_at_us, id) where session_id is not null;
create index waits_by_run on waits (workspace_id, run_id, created_at_us, id) where run_id is not null;
create index waits_pending on waits (workspace_id, session_id) where status = 'pending' and session_id is not null;
create index waits_pending_for_mail on waits (workspace_id, inbox_id) where status = 'pending' and inbox_id is not null;
create index waits_due on waits (due_at_us) where status = 'pending' and due_at_us is not null;

-- How many waits for events of its log are pending: an append to one that has some tells them.
alter table sessions add column event_waits integer not null default 0;
create index sessions_expiring on sessions (expires_at_us)
    where expires_at_us is not null and status in ('created', 'active', 'paused');
create index sessions_ended on sessions (workspace_id, completed_at_us) where completed_at_us is not null;

-- How long what has ended is kept; null is for ever.
alter table workspaces add column retention_seconds integer;

-- The wait that a run has given its worker up for, how often it did, and whose recorded tools answer its own.
alter table runs add column wait_id text;
alter table runs add column waits integer not null default 0;
alter table runs add column simulates text;

-- What nobody sees any more, and is removed a piece at a time.
create table trash (
    workspace_id text not null,
    kind text not null check (kind in ('inbox')),
    id text not null,
    primary key (workspace_id, kind, id)
) strict, without rowid;
