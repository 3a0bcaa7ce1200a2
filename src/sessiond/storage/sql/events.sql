-- What an event is made of, in the order of `core.event.Event`.
-- name: event_select
select session_id, seq, type, created_at_us, actor, run_id, action, duration_us, body from events

-- In the order of `core.event.StoredMessage`.
-- name: message_select
select session_id, seq, created_at_us, run_id, body from events

-- The same for a log in which few events are messages; see sqlite.sql.
-- name: message_select_sparse
{message_select}

-- Messages by their numbers in the index, of sessions that are there and as asked for.
-- name: messages_of_docs
select e.session_id, e.seq, e.created_at_us, e.run_id, e.body
from (
    {search_locate}
) d
cross join events e
where e.workspace_id = :workspace and e.session_id = d.session_id and e.seq = d.seq and e.type like 'message.%'

-- name: event_get
{event_select}
where workspace_id = :workspace and session_id = :id and seq = :seq

-- name: event_insert
insert into events (workspace_id, session_id, seq, type, created_at_us, actor, run_id, action, duration_us, body)
values (:workspace, :id, :seq, :type, :at_us, :actor, :run_id, :action, :duration_us, :body)

-- A message that is taken back is no message any more, and no step: see `storage/messages.py`.
-- name: event_remove
update events set type = :type, body = :body, action = null, duration_us = null
where workspace_id = :workspace and session_id = :id and seq = :seq

-- name: event_delete_until
delete from events where workspace_id = :workspace and session_id = :id and seq <= :seq

-- Sizes without the bodies: neither database reads a long value to tell its length.
-- name: event_size_select
select seq, length(body) from events
