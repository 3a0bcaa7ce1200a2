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
returning s.workspace_id, s.id, s.last_seq, case when to_index = 1 then updated_slot else -1 end, s.key_id

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
where s.lease_owner is not null and s.ready_at_us <= :now_us and s.workspace_id not in ({locked_workspaces})
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
returning s.workspace_id, s.id, s.last_seq, case when to_index = 1 then updated_slot else -1 end, s.event_waits, s.key_id

-- Two sweepers look at the same time; each takes what the other has not.
-- name: waits_due
{wait_select}
where due_at_us <= :now_us and status = 'pending' and due_at_us is not null and workspace_id not in ({locked_workspaces})
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

-- name: locked_workspaces
select unnest(cast(:locked as text[]))

-- Many in one round trip.
-- name: seal_keys_get_each
select id, kind, parent_id, wrapped from seal_keys
where workspace_id = :workspace and id = any (cast(:ids as bigint[]))

-- name: workspace_lock
select 1 from workspaces where id = :workspace
for no key update

-- A transaction gets its number with its first write, and may have read long before: so its beginning is what counts.
-- name: transactions_mark
select cast(extract(epoch from clock_timestamp()) * 1000000 as bigint)

-- name: transactions_settled
select 1 where not exists (
    select 1 from pg_stat_activity
    where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
        and extract(epoch from xact_start) * 1000000 <= cast(:mark as bigint))

-- name: wait_lock
select key_id from waits where workspace_id = :workspace and id = :id
for update

-- name: mail_lock
select 1 from mails where workspace_id = :workspace and id = :id
for update

-- What no session keeps from changing while it is sealed anew, somebody else may have in hand.
-- name: waits_apart_to_reseal
{wait_select}
where workspace_id = :workspace and session_id is null and coalesce(key_id, 0) <> :key
order by id limit :limit
for update

-- name: mails_apart_to_reseal
{mail_select}
where m.workspace_id = :workspace and m.session_id is null and coalesce(m.key_id, 0) <> :key
order by m.id limit :limit
for update of m

-- name: mails_to_reseal
{mail_select}
where m.workspace_id = :workspace and coalesce(m.key_id, 0) <> :key and m.inbox_id in (
    select i.id from inboxes i
    where i.workspace_id = :workspace and i.session_id = :session and i.session_id is not null
)
order by m.received_at_us, m.id limit :limit
for update of m

-- Two sweepers look at the same time; each takes what the other has not.
-- name: trash_find
select workspace_id, kind, id, erasure_id from trash order by workspace_id, kind, id limit 1
for update skip locked

-- A new log. Asked once more whether an old one of the id is being removed: whoever deletes it may have committed while
-- the session's row was waited for, and a statement sees what was committed before it began.
-- name: event_insert_new
insert into events (workspace_id, session_id, seq, type, created_at_us, actor, run_id, action, duration_us, body)
select * from unnest(cast(:workspaces as text[]), cast(:ids as text[]), cast(:seqs as bigint[]),
    cast(:types as text[]), cast(:ats_us as bigint[]), cast(:actors as text[]), cast(:run_ids as text[]),
    cast(:actions as text[]), cast(:durations_us as bigint[]), cast(:bodies as bytea[]))
where not exists (select 1 from trash where workspace_id = :workspace and kind = 'session' and id = :id)
returning seq

-- name: erasure_lock
select 1 from erasures where workspace_id = :workspace and id = :id
for update

-- The ends of many logs in one round trip.
-- name: message_tails
select e.session_id, e.seq, e.created_at_us, e.run_id, e.body
from unnest(cast(:ids as text[]), cast(:afters as bigint[]), cast(:untils as bigint[])) as w (id, after, until)
cross join lateral (
    {message_select}
    where workspace_id = :workspace and session_id = w.id and seq > w.after and seq <= w.until and type like 'message.%'
    order by seq limit :limit
) e

-- name: messages_at
select e.session_id, e.seq, e.created_at_us, e.run_id, e.body
from unnest(cast(:ids as text[]), cast(:seqs as bigint[])) as w (id, seq)
join events e on e.workspace_id = :workspace and e.session_id = w.id and e.seq = w.seq and e.type like 'message.%'

-- An append has a session's row in hand: it is passed by until it is quiet.
-- name: search_quiet_each
update sessions set to_index = 0
where (workspace_id, id) in (
    select s.workspace_id, s.id
    from sessions s
    join unnest(cast(:ids as text[]), cast(:seqs as bigint[])) as w (id, seq)
        on s.workspace_id = :workspace and s.id = w.id and s.last_seq = w.seq
    where s.to_index = 1 and s.updated_slot <= :slot
    for update of s skip locked
)

-- name: search_docs_insert_each
insert into search_docs (workspace_id, doc, session_id, seq, created_at_us, key_id)
select :workspace, d.doc, d.session_id, d.seq, d.created_at_us, :key
from unnest(cast(:docs as bigint[]), cast(:ids as text[]), cast(:seqs as bigint[]), cast(:ats_us as bigint[]))
    as d (doc, session_id, seq, created_at_us)

-- name: search_progress_put_each
insert into search_progress (workspace_id, session_id, created_at_us, seq)
select :workspace, p.session_id, p.created_at_us, p.seq
from unnest(cast(:ids as text[]), cast(:ats_us as bigint[]), cast(:seqs as bigint[])) as p (session_id, created_at_us, seq)
on conflict (workspace_id, session_id) do update set created_at_us = excluded.created_at_us, seq = excluded.seq

-- Only here can two transactions change one index at a time.
-- name: search_lock
select version, next_segment from search_workspaces where workspace_id = :workspace
for update

-- name: search_docs_taken
select doc from search_docs where workspace_id = :workspace and doc = any(cast(:docs as bigint[]))

-- name: search_locate
select d.doc, d.created_at_us, d.session_id, d.seq
from search_docs d
join sessions s on s.workspace_id = d.workspace_id and s.id = d.session_id
where d.workspace_id = :workspace and d.doc = any(cast(:docs as bigint[]))
    and (cast(:user as text) is null or s.user_id = :user) and (cast(:agent as text) is null or s.agent_id = :agent)
    and (cast(:session as text) is null or s.id = :session)

-- name: search_buckets
select p.segment, p.bucket, p.entries
from unnest(cast(:segments as bigint[]), cast(:buckets as bigint[])) as w (segment, bucket)
join search_postings p on p.workspace_id = :workspace and p.segment = w.segment and p.bucket = w.bucket
