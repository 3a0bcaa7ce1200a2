-- The first schema. Times are microseconds since 1970, UTC. Text sorts by its bytes, as on SQLite.

create table workspaces (
    id text collate "C" not null primary key,
    database_id_hash text collate "C" not null unique check (length(database_id_hash) = 64),
    created_at_us bigint not null,
    -- The number of the last audit entry: whoever adds one takes the next, one after the other.
    audit_seq bigint not null default 0
);

create table keys (
    id text collate "C" not null primary key,
    workspace_id text collate "C" not null references workspaces (id),
    name text collate "C",
    hash bytea not null unique,
    scopes text collate "C" not null,
    dialect text collate "C",
    user_id text collate "C",
    created_at_us bigint not null,
    expires_at_us bigint,
    revoked_at_us bigint,
    last_used_at_us bigint
);

create index keys_by_workspace on keys (workspace_id, created_at_us);

-- A narrow row, because every append rewrites it. What is wide stands in session_details.
create table sessions (
    workspace_id text collate "C" not null,
    id text collate "C" not null,
    agent_id text collate "C",
    user_id text collate "C",
    task_id text collate "C",
    name text collate "C",
    user_name text collate "C",
    user_email text collate "C",
    accept_terms text collate "C",
    status text collate "C" not null check (status in ('created', 'active', 'paused', 'completed', 'failed')),
    message_count bigint not null,
    last_seq bigint not null,
    log_bytes bigint not null,
    largest_bytes bigint not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    parent text collate "C",
    created_at_us bigint not null,
    updated_at_us bigint not null,
    last_active_at_us bigint not null,
    completed_at_us bigint,
    expires_at_us bigint,
    -- What session_details holds for it; 0 when it has no row there, and nobody need look.
    details_bytes bigint not null,
    -- id, user name and e-mail, case folded: what a partial match looks in.
    search_text text collate "C" not null,
    -- The session row is the lease of its runs: who works on it until when, and when work is due.
    ready_at_us bigint,
    lease_owner text collate "C",
    lease_until_us bigint not null default 0,
    fence bigint not null default 0,
    -- updated_at_us in tens of seconds, to sort by: an index on the time itself would change with every append.
    updated_slot bigint not null,
    primary key (workspace_id, id),
    check ((status in ('completed', 'failed')) = (completed_at_us is not null))
)
-- Room on each page, so that an append's new row version stays there and no index is touched (HOT).
with (fillfactor = 75);

create index sessions_by_created on sessions (workspace_id, created_at_us);
create index sessions_by_agent on sessions (workspace_id, agent_id, created_at_us) where agent_id is not null;
create index sessions_by_user on sessions (workspace_id, user_id, created_at_us) where user_id is not null;
create index sessions_by_task on sessions (workspace_id, task_id, created_at_us) where task_id is not null;
create index sessions_by_status on sessions (workspace_id, status, created_at_us);
create index sessions_by_updated on sessions (workspace_id, updated_slot);
create index sessions_by_agent_updated on sessions (workspace_id, agent_id, updated_slot) where agent_id is not null;

-- Present only where there is something to say.
create table session_details (
    workspace_id text collate "C" not null,
    session_id text collate "C" not null,
    metadata bytea,
    data bytea,
    prompt text collate "C",
    primary key (workspace_id, session_id)
);

-- Scalars of the metadata, to filter by; in the order a filtered list shows them.
create table session_metadata (
    workspace_id text collate "C" not null,
    key text collate "C" not null,
    value text collate "C" not null,
    created_at_us bigint not null,
    session_id text collate "C" not null,
    primary key (workspace_id, key, value, created_at_us, session_id)
);

-- Totals, kept: counting 100,000 rows costs sixty times a small request.
create table session_counts (
    workspace_id text collate "C" not null,
    field text collate "C" not null,
    value text collate "C" not null,
    shard smallint not null,
    n bigint not null,
    primary key (workspace_id, field, value, shard)
);

create index session_counts_empty on session_counts (n) where n = 0;

-- The log of every session, clustered so that a page of it lies together.
create table events (
    workspace_id text collate "C" not null,
    session_id text collate "C" not null,
    seq bigint not null,
    type text collate "C" not null,
    created_at_us bigint not null,
    actor text collate "C" not null,
    run_id text collate "C",
    action text collate "C",
    duration_us bigint,
    body bytea not null,
    primary key (workspace_id, session_id, seq)
);

-- What was answered to a request that may come again.
create table idempotency (
    workspace_id text collate "C" not null,
    user_id text collate "C" not null,
    key text collate "C" not null,
    fingerprint bytea not null,
    answer bytea,
    created_at_us bigint not null,
    primary key (workspace_id, user_id, key)
);

create index idempotency_by_age on idempotency (created_at_us);

-- Who did what that somebody may have to answer for. Nothing changes or removes a row.
create table audit (
    workspace_id text collate "C" not null,
    seq bigint not null,
    at_us bigint not null,
    actor text collate "C" not null,
    event text collate "C" not null,
    record_locator bytea not null,
    primary key (workspace_id, seq)
);
