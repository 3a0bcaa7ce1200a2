-- Inboxes and their mails, waits, and what is to be removed.

create table inboxes (
    workspace_id text collate "C" not null,
    id text collate "C" not null,
    session_id text collate "C",
    user_id text collate "C",
    address text collate "C" not null unique,
    purpose text collate "C",
    metadata bytea,
    actor text collate "C" not null,
    mail_count bigint not null,
    mail_bytes bigint not null,
    created_at_us bigint not null,
    expires_at_us bigint,
    expired_at_us bigint,
    primary key (workspace_id, id)
);

create index inboxes_by_created on inboxes (workspace_id, created_at_us, id);
create index inboxes_by_session on inboxes (workspace_id, session_id, created_at_us, id) where session_id is not null;
create index inboxes_expiring on inboxes (expires_at_us) where expires_at_us is not null and expired_at_us is null;
create index inboxes_expired on inboxes (workspace_id, expired_at_us) where expired_at_us is not null;

create table mails (
    workspace_id text collate "C" not null,
    id text collate "C" not null,
    inbox_id text collate "C" not null,
    session_id text collate "C",
    user_id text collate "C",
    received_at_us bigint not null,
    size bigint not null,
    envelope bytea not null,
    extractions bytea not null,
    primary key (workspace_id, id)
);

create index mails_by_inbox on mails (workspace_id, inbox_id, received_at_us, id);

-- What is wide of a mail.
create table mail_contents (
    workspace_id text collate "C" not null,
    mail_id text collate "C" not null,
    content bytea not null,
    raw bytea not null,
    primary key (workspace_id, mail_id)
);

create table waits (
    workspace_id text collate "C" not null,
    id text collate "C" not null,
    session_id text collate "C",
    inbox_id text collate "C",
    run_id text collate "C",
    user_id text collate "C",
    type text collate "C" not null,
    status text collate "C" not null check (status in ('pending', 'completed', 'timed_out', 'cancelled')),
    critical boolean not null,
    terms bytea not null,
    result bytea,
    reason text collate "C",
    actor text collate "C" not null,
    created_at_us bigint not null,
    times_out_at_us bigint,
    ended_at_us bigint,
    -- When somebody must look at it: when it times out, or at once because its session's log has grown.
    due_at_us bigint,
    -- SHA-256 of what stands in the URL that completes it.
    hook_hash bytea unique,
    primary key (workspace_id, id),
    check ((status = 'pending') = (ended_at_us is null))
);

create index waits_by_created on waits (workspace_id, created_at_us, id);
create index waits_by_session on waits (workspace_id, session_id, created_at_us, id) where session_id is not null;
create index waits_by_run on waits (workspace_id, run_id, created_at_us, id) where run_id is not null;
create index waits_pending on waits (workspace_id, session_id) where status = 'pending' and session_id is not null;
create index waits_pending_for_mail on waits (workspace_id, inbox_id) where status = 'pending' and inbox_id is not null;
create index waits_due on waits (due_at_us) where status = 'pending' and due_at_us is not null;

-- How many waits for events of its log are pending: an append to one that has some tells them.
alter table sessions add column event_waits bigint not null default 0;
create index sessions_expiring on sessions (expires_at_us)
    where expires_at_us is not null and status in ('created', 'active', 'paused');
create index sessions_ended on sessions (workspace_id, completed_at_us) where completed_at_us is not null;

-- How long what has ended is kept; null is for ever.
alter table workspaces add column retention_seconds bigint;

-- The wait that a run has given its worker up for, how often it did, and whose recorded tools answer its own.
alter table runs add column wait_id text collate "C";
alter table runs add column waits bigint not null default 0;
alter table runs add column simulates text collate "C";

-- What nobody sees any more, and is removed a piece at a time.
create table trash (
    workspace_id text collate "C" not null,
    kind text collate "C" not null check (kind in ('inbox')),
    id text collate "C" not null,
    primary key (workspace_id, kind, id)
);
