-- The first schema. Times are microseconds since 1970, UTC. STRICT: a wrong type is an error, as on PostgreSQL.

create table workspaces (
    id text not null primary key,
    database_id_hash text not null unique check (length(database_id_hash) = 64),
    created_at_us integer not null,
    -- The number of the last audit entry: whoever adds one takes the next, one after the other.
    audit_seq integer not null default 0
) strict;

create table keys (
    id text not null primary key,
    workspace_id text not null references workspaces (id),
    name text,
    hash blob not null unique,
    scopes text not null,
    dialect text,
    user_id text,
    created_at_us integer not null,
    expires_at_us integer,
    revoked_at_us integer,
    last_used_at_us integer
) strict;

create index keys_by_workspace on keys (workspace_id, created_at_us);

-- A narrow row, because every append rewrites it. What is wide stands in session_details.
create table sessions (
    workspace_id text not null,
    id text not null,
    agent_id text,
    user_id text,
    task_id text,
    name text,
    user_name text,
    user_email text,
    accept_terms text,
    status text not null check (status in ('created', 'active', 'paused', 'completed', 'failed')),
    message_count integer not null,
    last_seq integer not null,
    log_bytes integer not null,
    largest_bytes integer not null,
    prompt_tokens integer not null,
    completion_tokens integer not null,
    parent text,
    created_at_us integer not null,
    updated_at_us integer not null,
    last_active_at_us integer not null,
    completed_at_us integer,
    expires_at_us integer,
    -- What session_details holds for it; 0 when it has no row there, and nobody need look.
    details_bytes integer not null,
    -- id, user name and e-mail, case folded: what a partial match looks in.
    search_text text not null,
    -- The session row is the lease of its runs: who works on it until when, and when work is due.
    ready_at_us integer,
    lease_owner text,
    lease_until_us integer not null default 0,
    fence integer not null default 0,
    -- updated_at_us in tens of seconds, to sort by: an index on the time itself would change with every append.
    updated_slot integer not null,
    primary key (workspace_id, id),
    check ((status in ('completed', 'failed')) = (completed_at_us is not null))
) strict;

create index sessions_by_created on sessions (workspace_id, created_at_us);
create index sessions_by_agent on sessions (workspace_id, agent_id, created_at_us) where agent_id is not null;
create index sessions_by_user on sessions (workspace_id, user_id, created_at_us) where user_id is not null;
create index sessions_by_task on sessions (workspace_id, task_id, created_at_us) where task_id is not null;
create index sessions_by_status on sessions (workspace_id, status, created_at_us);
create index sessions_by_updated on sessions (workspace_id, updated_slot);
create index sessions_by_agent_updated on sessions (workspace_id, agent_id, updated_slot) where agent_id is not null;

-- Present only where there is something to say.
create table session_details (
    workspace_id text not null,
    session_id text not null,
    metadata blob,
    data blob,
    prompt text,
    primary key (workspace_id, session_id)
) strict;

-- Scalars of the metadata, to filter by; in the order a filtered list shows them.
create table session_metadata (
    workspace_id text not null,
    key text not null,
    value text not null,
    created_at_us integer not null,
    session_id text not null,
    primary key (workspace_id, key, value, created_at_us, session_id)
) strict, without rowid;

-- Totals, kept: counting 100,000 rows costs sixty times a small request.
create table session_counts (
    workspace_id text not null,
    field text not null,
    value text not null,
    shard integer not null,
    n integer not null,
    primary key (workspace_id, field, value, shard)
) strict, without rowid;

create index session_counts_empty on session_counts (n) where n = 0;

-- The log of every session, clustered so that a page of it lies together.
create table events (
    workspace_id text not null,
    session_id text not null,
    seq integer not null,
    type text not null,
    created_at_us integer not null,
    actor text not null,
    run_id text,
    action text,
    duration_us integer,
    body blob not null,
    primary key (workspace_id, session_id, seq)
) strict, without rowid;

-- What was answered to a request that may come again.
create table idempotency (
    workspace_id text not null,
    user_id text not null,
    key text not null,
    fingerprint blob not null,
    answer blob,
    created_at_us integer not null,
    primary key (workspace_id, user_id, key)
) strict, without rowid;

create index idempotency_by_age on idempotency (created_at_us);

-- Who did what that somebody may have to answer for. Nothing changes or removes a row.
create table audit (
    workspace_id text not null,
    seq integer not null,
    at_us integer not null,
    actor text not null,
    event text not null,
    record_locator blob not null,
    primary key (workspace_id, seq)
) strict, without rowid;
