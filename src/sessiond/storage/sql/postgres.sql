-- What PostgreSQL says differently, or alone.

-- Only here can two transactions have the same row in hand.
-- name: session_lock
select 1 from sessions where workspace_id = :workspace and id = :id
for update

-- A row is spread over shards, so that those who create sessions do not queue behind one.
-- name: count_add
insert into session_counts (workspace_id, field, value, shard, n)
select r ->> 0, r ->> 1, r ->> 2, cast(r ->> 3 as smallint), cast(r ->> 4 as bigint)
from jsonb_array_elements(cast(:rows as jsonb)) with ordinality as rows (r, position)
order by position
on conflict (workspace_id, field, value, shard) do update set n = session_counts.n + excluded.n

-- Appends to many sessions in one round trip. They are locked in the order of their keys: two processes that append to
-- the same ones do not wait for each other in a circle.
-- name: session_bump_each
with wanted as (
    select * from unnest(cast(:workspaces as text[]), cast(:ids as text[]), cast(:users as text[]),
        cast(:events as bigint[]), cast(:messages as bigint[]), cast(:bytes as bigint[]),
        cast(:largest as bigint[]), cast(:ats_us as bigint[]), cast(:starts as bigint[]))
        as w (workspace_id, id, user_id, events, messages, bytes, largest, at_us, starts)
), locked as (
    select s.workspace_id, s.id
    from sessions s
    join wanted w on s.workspace_id = w.workspace_id and s.id = w.id
    where s.status in ('active', 'paused') and s.event_waits = 0 and (w.user_id is null or s.user_id = w.user_id)
        and (w.starts = 0 or s.agent_id is null
            or not exists (select 1 from agents a where a.workspace_id = s.workspace_id and a.id = s.agent_id))
    order by s.workspace_id, s.id
    -- One that somebody holds is appended to by itself: it would keep all the others waiting.
    for update of s skip locked
)
update sessions s set last_seq = s.last_seq + w.events, message_count = s.message_count + w.messages,
    log_bytes = s.log_bytes + w.bytes, largest_bytes = greatest(s.largest_bytes, w.largest), updated_at_us = w.at_us, last_active_at_us = w.at_us
from locked l
join wanted w on w.workspace_id = l.workspace_id and w.id = l.id
where s.workspace_id = l.workspace_id and s.id = l.id
returning s.workspace_id, s.id, s.last_seq, s.updated_slot

-- name: event_insert_each
insert into events (workspace_id, session_id, seq, type, created_at_us, actor, run_id, action, duration_us, body)
select * from unnest(cast(:workspaces as text[]), cast(:ids as text[]), cast(:seqs as bigint[]),
    cast(:types as text[]), cast(:ats_us as bigint[]), cast(:actors as text[]), cast(:run_ids as text[]),
    cast(:actions as text[]), cast(:durations_us as bigint[]), cast(:bodies as bytea[]))

-- The database's own clock, as it is now and not when the transaction began.
-- name: clock
select cast(extract(epoch from clock_timestamp()) * 1000000 as bigint)

-- Two workers look at the same time; each takes what the other has not.
-- name: sessions_due
select s.workspace_id, s.id, s.status, s.ready_agent_id from sessions s
where s.workspace_id = :workspace and s.ready_agent_id = :agent and s.ready_at_us <= :now_us
    and s.ready_agent_id is not null and s.ready_at_us is not null
order by s.ready_at_us limit :limit
for update of s skip locked

-- name: sessions_lapsed
select s.workspace_id, s.id, s.status, s.ready_agent_id from sessions s
where s.lease_owner is not null and s.ready_at_us <= :now_us
order by s.ready_at_us limit :limit
for update of s skip locked

-- The agents for which sessions wait, from behind one, with the time from which the first of them does. From each to the
-- next is one look into the index, however many sessions wait for it.
-- A parameter has not the columns' collation by itself.
-- name: lanes
with recursive lanes (workspace_id, agent_id, number) as (
    select cast(:workspace as text) collate "C", cast(:agent as text) collate "C", 0
    union all
    select next.workspace_id, next.ready_agent_id, l.number + 1
    from lanes l
    cross join lateral (
        select s.workspace_id, s.ready_agent_id from sessions s
        where (s.workspace_id, s.ready_agent_id) > (l.workspace_id, l.agent_id)
            and s.ready_agent_id is not null and s.ready_at_us is not null
        order by s.workspace_id, s.ready_agent_id limit 1
    ) next
    where l.number < :limit
)
select l.workspace_id, l.agent_id, (
    select min(s.ready_at_us) from sessions s
    where s.workspace_id = l.workspace_id and s.ready_agent_id = l.agent_id
        and s.ready_agent_id is not null and s.ready_at_us is not null
)
from lanes l where l.number > 0

-- Somebody else counts this agent's runs just now: who would wait here, having sessions in hand, could wait in a circle.
-- name: agent_lock
select 1 from agents where workspace_id = :workspace and id = :id
for update skip locked

-- name: lease_hold
select 1 from sessions where workspace_id = :workspace and id = :id and fence = :fence and lease_owner = :worker
for update

-- name: session_lock_free
select 1 from sessions where workspace_id = :workspace and id = :id
for update skip locked

-- Many in one round trip.
-- name: sessions_lock_free_each
select s.workspace_id, s.id
from sessions s
join unnest(cast(:workspaces as text[]), cast(:ids as text[])) as w (workspace_id, id)
    on s.workspace_id = w.workspace_id and s.id = w.id
for update of s skip locked

-- name: session_note_each
update sessions s set last_seq = s.last_seq + w.events, message_count = s.message_count + w.messages,
    log_bytes = s.log_bytes + w.bytes, largest_bytes = greatest(s.largest_bytes, w.largest), updated_at_us = w.at_us
from unnest(cast(:workspaces as text[]), cast(:ids as text[]), cast(:events as bigint[]), cast(:messages as bigint[]),
    cast(:bytes as bigint[]), cast(:largest as bigint[]), cast(:ats_us as bigint[]))
    as w (workspace_id, id, events, messages, bytes, largest, at_us)
where s.workspace_id = w.workspace_id and s.id = w.id
returning s.workspace_id, s.id, s.last_seq, s.updated_slot, s.event_waits

-- Two sweepers look at the same time; each takes what the other has not.
-- name: waits_due
{wait_select}
where due_at_us <= :now_us and status = 'pending' and due_at_us is not null
order by due_at_us limit :limit
for update skip locked

-- name: wait_end_each
update waits set status = w.status, result = w.result, reason = w.reason, ended_at_us = w.at_us, due_at_us = null
from unnest(cast(:workspaces as text[]), cast(:ids as text[]), cast(:statuses as text[]), cast(:results as bytea[]),
    cast(:reasons as text[]), cast(:ats_us as bigint[])) as w (workspace_id, id, status, result, reason, at_us)
where waits.workspace_id = w.workspace_id and waits.id = w.id and waits.status = 'pending'
returning waits.id

-- name: inbox_lock
select 1 from inboxes where workspace_id = :workspace and id = :id
for update

-- name: workspace_lock
select 1 from workspaces where id = :workspace
for no key update
