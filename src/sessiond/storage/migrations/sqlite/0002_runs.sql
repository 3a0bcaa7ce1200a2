-- Agents, and the runs they do.

-- What becomes of a message that comes during a run; null is the server's default.
alter table sessions add column multitask_strategy text
    check (multitask_strategy in ('enqueue', 'reject', 'interrupt'));
-- How many runs of it have not ended, and whose turn it is. `ready_at_us` is null when nothing is to be done, and the
-- end of the lease while somebody does it.
alter table sessions add column open_runs integer not null default 0;
alter table sessions add column ready_agent_id text;

-- Sessions that wait for a worker, a lane for each agent: one that has enough to do is passed by in one step.
create index sessions_due on sessions (workspace_id, ready_agent_id, ready_at_us)
    where ready_agent_id is not null and ready_at_us is not null;
create index sessions_leased on sessions (ready_at_us) where lease_owner is not null;

create table agents (
    workspace_id text not null,
    id text not null,
    runner text not null,
    options blob not null,
    time_limit_seconds real not null,
    retries integer not null,
    backoff_seconds real not null,
    concurrency integer,
    history integer not null,
    fails_session integer not null check (fails_session in (0, 1)),
    created_at_us integer not null,
    updated_at_us integer not null,
    primary key (workspace_id, id)
) strict, without rowid;

create index agents_limited on agents (workspace_id, id) where concurrency is not null;

create table runs (
    workspace_id text not null,
    id text not null,
    -- Null when the session was deleted.
    session_id text,
    agent_id text not null,
    user_id text,
    status text not null check (status in ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled')),
    queued_seq integer not null,
    input_seq integer not null,
    input blob,
    output blob,
    error blob,
    ask blob,
    answer blob,
    prompt_tokens integer not null,
    completion_tokens integer not null,
    attempts integer not null,
    failures integer not null,
    worker text,
    actor text not null,
    retry_of text,
    cancel_requested_at_us integer,
    created_at_us integer not null,
    started_at_us integer,
    completed_at_us integer,
    ended_seq integer,
    primary key (workspace_id, id),
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at_us is not null))
) strict;

create index runs_by_created on runs (workspace_id, created_at_us, id);
create index runs_by_session on runs (workspace_id, session_id, queued_seq) where session_id is not null;
create index runs_by_agent on runs (workspace_id, agent_id, created_at_us, id);
create index runs_by_status on runs (workspace_id, status, created_at_us, id);
create index runs_open on runs (workspace_id, session_id, queued_seq) where status in ('queued', 'running', 'waiting');
create index runs_under_way on runs (workspace_id, agent_id) where status in ('running', 'waiting');

-- Messages among the many pieces of runs.
create index events_messages on events (workspace_id, session_id, seq) where type like 'message.%';
