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
        cast(:largest as bigint[]), cast(:ats_us as bigint[]))
        as w (workspace_id, id, user_id, events, messages, bytes, largest, at_us)
), locked as (
    select s.workspace_id, s.id
    from sessions s
    join wanted w on s.workspace_id = w.workspace_id and s.id = w.id
    where s.status in ('active', 'paused') and (w.user_id is null or s.user_id = w.user_id)
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
