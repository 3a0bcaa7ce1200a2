-- In the order of `core.agent.Agent`.
-- name: agent_select
select workspace_id, id, runner, options, time_limit_seconds, retries, backoff_seconds, concurrency, history,
    fails_session, created_at_us, updated_at_us
from agents

-- name: agent_get
{agent_select}
where workspace_id = :workspace and id = :id

-- name: agent_list
{agent_select}
where workspace_id = :workspace and id > :after
order by id limit :limit

-- name: agent_insert
insert into agents (workspace_id, id, runner, options, time_limit_seconds, retries, backoff_seconds, concurrency,
    history, fails_session, created_at_us, updated_at_us)
values (:workspace, :id, :runner, :options, :time_limit_seconds, :retries, :backoff_seconds, :concurrency, :history,
    :fails_session, :created_at_us, :updated_at_us)
on conflict (workspace_id, id) do nothing
returning id

-- name: agent_update
update agents set runner = :runner, options = :options, time_limit_seconds = :time_limit_seconds, retries = :retries,
    backoff_seconds = :backoff_seconds, concurrency = :concurrency, history = :history, fails_session = :fails_session,
    updated_at_us = :updated_at_us
where workspace_id = :workspace and id = :id

-- name: agent_delete
delete from agents where workspace_id = :workspace and id = :id
returning id

-- Whose limit of runs at once is reached. There are few with a limit.
-- name: agents_full
select a.workspace_id, a.id from agents a
where a.concurrency is not null and a.concurrency <= (
    select count(*) from runs r
    where r.workspace_id = a.workspace_id and r.agent_id = a.id and r.status in ('running', 'waiting')
        and r.wait_id is null
)

-- The agent, for as long as this transaction counts its runs. See postgres.sql.
-- name: agent_lock
select 1 from agents where workspace_id = :workspace and id = :id

-- name: agent_under_way
select count(*) from runs
where workspace_id = :workspace and agent_id = :id and status in ('running', 'waiting') and wait_id is null
