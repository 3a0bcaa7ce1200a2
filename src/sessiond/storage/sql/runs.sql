-- In the order of `core.run.Run`.
-- name: run_select
select workspace_id, id, session_id, agent_id, user_id, status, queued_seq, input_seq, input, output, error, ask,
    answer, prompt_tokens, completion_tokens, attempts, failures, worker, actor, retry_of, cancel_requested_at_us,
    created_at_us, started_at_us, completed_at_us, ended_seq, wait_id, waits, simulates, key_id
from runs

-- name: run_get
{run_select}
where workspace_id = :workspace and id = :id and (cast(:user as text) is null or user_id = :user)

-- name: run_insert
insert into runs (workspace_id, id, session_id, agent_id, user_id, status, queued_seq, input_seq, input, output, error,
    ask, answer, prompt_tokens, completion_tokens, attempts, failures, worker, actor, retry_of, cancel_requested_at_us,
    created_at_us, started_at_us, completed_at_us, ended_seq, wait_id, waits, simulates, key_id)
values (:workspace, :id, :session_id, :agent_id, :user_id, :status, :queued_seq, :input_seq, :input, :output, :error,
    :ask, :answer, :prompt_tokens, :completion_tokens, :attempts, :failures, :worker, :actor, :retry_of,
    :cancel_requested_at_us, :created_at_us, :started_at_us, :completed_at_us, :ended_seq, :wait_id, :waits,
    :simulates, :key_id)

-- name: run_update
update runs set status = :status, output = :output, error = :error, ask = :ask, answer = :answer,
    prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens, attempts = :attempts,
    failures = :failures, worker = :worker, cancel_requested_at_us = :cancel_requested_at_us,
    started_at_us = :started_at_us, completed_at_us = :completed_at_us, ended_seq = :ended_seq,
    wait_id = :wait_id, waits = :waits
where workspace_id = :workspace and id = :id

-- Sizes without the values: neither database reads a long one to tell its length.
-- name: run_size_select
select coalesce(length(input), 0) + coalesce(length(output), 0) + coalesce(length(ask), 0) + coalesce(length(answer), 0)
from runs

-- name: run_count_select
select count(*) from runs

-- A session's runs that have not ended, first the one whose turn it is.
-- name: runs_open
{run_select}
where workspace_id = :workspace and session_id = :session and status in ('queued', 'running', 'waiting')
    and queued_seq > :after
order by queued_seq limit :limit

-- Runs that have not ended end so when their session is deleted.
-- name: runs_orphan_open
update runs set session_id = null, completed_at_us = :at_us, error = :error, ask = null, answer = null,
    wait_id = null, status = 'cancelled'
where workspace_id = :workspace and session_id = :session and status in ('queued', 'running', 'waiting')

-- What runs keep when their session is deleted.
-- name: runs_orphan_some
update runs set session_id = null, ask = null, answer = null, wait_id = null
where (workspace_id, id) in (
    select workspace_id, id from runs
    where workspace_id = :workspace and session_id = :session and session_id is not null
        and completed_at_us is not null
    order by queued_seq limit :limit
)
returning id

-- What runs keep when their session is erased: that they were.
-- name: runs_empty_some
update runs set session_id = null, user_id = null, input = null, output = null, error = null, ask = null, answer = null,
    wait_id = null
where (workspace_id, id) in (
    select workspace_id, id from runs
    where workspace_id = :workspace and session_id = :session and session_id is not null
        and completed_at_us is not null
    order by queued_seq limit :limit
)
returning id

-- name: runs_empty_open
update runs set session_id = null, user_id = null, input = null, output = null, error = null, ask = null, answer = null,
    wait_id = null, completed_at_us = :at_us, status = 'cancelled'
where workspace_id = :workspace and session_id = :session and status in ('queued', 'running', 'waiting')
returning id

-- A session that was deleted and still has runs of a user.
-- name: runs_left_in
select r.session_id from trash t
join runs r on r.workspace_id = t.workspace_id and r.session_id = t.id and r.session_id is not null
where t.workspace_id = :workspace and t.kind = 'session' and r.user_id = :user limit 1

-- Of sessions that were deleted before.
-- name: runs_empty_alone
update runs set user_id = null, input = null, output = null, error = null, ask = null, answer = null
where (workspace_id, id) in (
    select workspace_id, id from runs
    where workspace_id = :workspace and user_id = :user and session_id is null and user_id is not null
        and created_at_us <= :until_us
    order by id limit :limit
)
returning id

-- The last runs of a session up to a place in its log, with what each of them answers.
-- name: runs_before
select id, queued_seq, input_seq, ended_seq from runs
where workspace_id = :workspace and session_id = :session and queued_seq <= :seq
order by queued_seq desc limit :limit

-- Runs are seen by whoever may see their session.
-- name: runs_rebind
update runs set user_id = :user where workspace_id = :workspace and session_id = :session

-- Whose turn it is in a session.
-- name: session_head_agent
select r.agent_id from runs r
where r.workspace_id = :workspace and r.session_id = :id and r.status in ('queued', 'running', 'waiting')
order by r.queued_seq limit 1

-- Whether that run has failed before, and is put off.
-- name: session_head_failures
select r.failures from runs r
where r.workspace_id = :workspace and r.session_id = :id and r.status in ('queued', 'running', 'waiting')
order by r.queued_seq limit 1

-- The wait that it has given its worker up for.
-- name: session_head_wait
select r.wait_id from runs r
where r.workspace_id = :workspace and r.session_id = :id and r.status in ('queued', 'running', 'waiting')
order by r.queued_seq limit 1

-- name: session_open_runs
select open_runs from sessions where workspace_id = :workspace and id = :id

-- Counts open runs in or out, and says when there is something to do: while it is leased, when the lease ends; when
-- the session is not under way or nothing is open, never; else it stays as it was, or is now. What was put off for the
-- sake of a run that was cancelled is not put off any more.
-- name: session_schedule
update sessions set open_runs = open_runs + :opened,
    ready_agent_id = case when lease_owner is null then ({session_head_agent}) end,
    ready_at_us = case
        when lease_owner is not null then ready_at_us
        when status <> 'active' or open_runs + :opened = 0 or ({session_head_wait}) is not null then null
        when :opened < 0 and ({session_head_failures}) = 0 then cast(:now_us as bigint)
        else coalesce(ready_at_us, :now_us)
    end
where workspace_id = :workspace and id = :id
returning ready_at_us

-- Sessions of one agent in which a run is to begin, the longest due first.
-- name: sessions_due
select s.workspace_id, s.id, s.status, s.ready_agent_id from sessions s
where s.workspace_id = :workspace and s.ready_agent_id = :agent and s.ready_at_us <= :now_us
    and s.ready_agent_id is not null and s.ready_at_us is not null
order by s.ready_at_us limit :limit

-- Sessions whose worker was lost. Nothing keeps them back: their runs have their places already.
-- name: sessions_lapsed
select s.workspace_id, s.id, s.status, s.ready_agent_id from sessions s
where s.lease_owner is not null and s.ready_at_us <= :now_us and s.workspace_id not in ({locked_workspaces})
order by s.ready_at_us limit :limit

-- name: session_next_lapse
select min(ready_at_us) from sessions where lease_owner is not null and workspace_id not in ({locked_workspaces})

-- name: run_written
select max(seq) from events
where workspace_id = :workspace and session_id = :id and seq > :after and run_id = :run and actor = :actor

-- name: lease_take
update sessions set lease_owner = :worker, lease_until_us = :until_us, ready_at_us = :until_us,
    ready_agent_id = null, fence = fence + 1
where workspace_id = :workspace and id = :id
returning fence

-- name: lease_drop
update sessions set lease_owner = null, lease_until_us = 0, open_runs = 0, ready_at_us = null, ready_agent_id = null
where workspace_id = :workspace and id = :id

-- name: lease_put_away
update sessions set lease_owner = null, lease_until_us = 0, ready_at_us = null where workspace_id = :workspace and id = :id

-- What a run writes: only while its worker has the lease.
-- name: lease_bump
update sessions set last_seq = last_seq + :events, message_count = message_count + :messages,
    log_bytes = log_bytes + :bytes,
    largest_bytes = case when largest_bytes < :largest then :largest else largest_bytes end,
    updated_at_us = :at_us, last_active_at_us = :at_us
where workspace_id = :workspace and id = :id and fence = :fence and lease_owner = :worker
returning last_seq, case when to_index = 1 then updated_slot else -1 end, event_waits, key_id

-- Only PostgreSQL must lock. See postgres.sql.
-- name: lease_hold
select 1 from sessions where workspace_id = :workspace and id = :id and fence = :fence and lease_owner = :worker

-- name: lease_renew
update sessions set lease_until_us = :until_us, ready_at_us = :until_us
where workspace_id = :workspace and id = :id and fence = :fence and lease_owner = :worker
returning id

-- name: lease_release
update sessions set lease_owner = null, lease_until_us = 0,
    prompt_tokens = prompt_tokens + :prompt_tokens, completion_tokens = completion_tokens + :completion_tokens,
    open_runs = open_runs - :ended,
    ready_agent_id = ({session_head_agent}),
    ready_at_us = case
        when status = 'active' and open_runs - :ended > 0 and ({session_head_wait}) is null then cast(:ready_us as bigint)
    end
where workspace_id = :workspace and id = :id and fence = :fence and lease_owner = :worker
returning ready_at_us

-- What a worker looks at when its session was written to by others.
-- name: lease_look
select s.fence, s.lease_owner, r.status, r.cancel_requested_at_us, r.answer, r.key_id
from sessions s
join runs r on r.workspace_id = s.workspace_id and r.id = :run
where s.workspace_id = :workspace and s.id = :id

-- name: runs_delete_some
delete from runs where workspace_id = :workspace and id in (
    select id from runs where workspace_id = :workspace and session_id = :session and session_id is not null
    order by queued_seq limit :limit
)
returning id
