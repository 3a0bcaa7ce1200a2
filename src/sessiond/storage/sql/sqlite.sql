-- What SQLite says differently.

-- The join that PostgreSQL makes costs SQLite 3.54 five times as much as these look-ups: 25 µs a row, not 5.
-- Of a sealed session one is enough: where it has plain text, the zero says that something does not belong there.
-- name: session_select
select s.workspace_id, s.id, s.agent_id, s.user_id, s.task_id, s.name, s.user_name, s.user_email, s.accept_terms,
    s.status, s.message_count, s.last_seq, s.log_bytes, s.largest_bytes, s.prompt_tokens, s.completion_tokens, s.parent,
    s.created_at_us, s.updated_at_us, s.last_active_at_us, s.completed_at_us, s.expires_at_us,
    s.multitask_strategy, case when s.agent_id is not null then
        exists (select 1 from agents a where a.workspace_id = s.workspace_id and a.id = s.agent_id) end,
    case when s.details_bytes = 0 or s.key_id is not null then null else
        (select d.metadata from session_details d where d.workspace_id = s.workspace_id and d.session_id = s.id) end,
    case when s.details_bytes = 0 or s.key_id is not null then null else
        (select d.data from session_details d where d.workspace_id = s.workspace_id and d.session_id = s.id) end,
    case when s.details_bytes = 0 or s.key_id is not null then null else
        (select d.prompt from session_details d where d.workspace_id = s.workspace_id and d.session_id = s.id) end,
    s.key_id,
    case when s.key_id is null then null else
        (select case when d.metadata is null and d.data is null and d.prompt is null then d.sealed else x'00' end
        from session_details d where d.workspace_id = s.workspace_id and d.session_id = s.id) end,
    s.details_bytes
from sessions s

-- SQLite has no arrays: JSON is its way to pass rows. `where true` tells its parser that the `on` is no join's.
-- name: count_add
insert into session_counts (workspace_id, field, value, shard, n)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 from json_each(:rows) where true
on conflict (workspace_id, field, value, shard) do update set n = n + excluded.n

-- The database's own clock. Here it is the machine's; SQLite's own functions tell milliseconds only.
-- name: clock
select now_us()

-- SQLite takes the primary key unless told, and passes by all that runs have written between two messages. Where most
-- are messages, that is the cheaper way. Of dense messages the index has none: they all stand in the first half of what
-- such a log has, where no message is far from the next.
-- name: message_select_sparse
select session_id, seq, created_at_us, run_id, body from (
    select session_id, seq, created_at_us, run_id, body, workspace_id, type, action
    from events indexed by events_messages
    where type like 'message.%' and dense is null
    union all
    select session_id, seq, created_at_us, run_id, body, workspace_id, type, action from events
    where dense = 1 and seq <= (select dense_seq from sessions where workspace_id = :workspace and id = :id)
)

-- The agents for which sessions wait, from behind one, with the time from which the first of them does. From each to the
-- next is one look into the index, however many sessions wait for it.
-- SQLite finds no pair behind a pair in an index: here the next agent of the workspace is looked for, then the next
-- workspace, whose row without an agent is no lane.
-- name: lanes
with recursive lanes (workspace_id, agent_id, number) as (
    select :workspace, :agent, 0
    union all
    select
        case when (select min(s.ready_agent_id) from sessions s
            where s.workspace_id = l.workspace_id and s.ready_agent_id > l.agent_id
                and s.ready_agent_id is not null and s.ready_at_us is not null) is not null
        then l.workspace_id
        else (select min(s.workspace_id) from sessions s
            where s.workspace_id > l.workspace_id and s.ready_agent_id is not null and s.ready_at_us is not null) end,
        coalesce((select min(s.ready_agent_id) from sessions s
            where s.workspace_id = l.workspace_id and s.ready_agent_id > l.agent_id
                and s.ready_agent_id is not null and s.ready_at_us is not null), ''),
        l.number + 1
    from lanes l where l.workspace_id is not null and l.number < :limit
)
select l.workspace_id, l.agent_id, (
    select min(s.ready_at_us) from sessions s
    where s.workspace_id = l.workspace_id and s.ready_agent_id = l.agent_id
        and s.ready_agent_id is not null and s.ready_at_us is not null
)
from lanes l where l.number > 0 and l.workspace_id is not null

-- For many appends, one after the other: each row says which of them it is of, and whether its messages are dense. They
-- are as long as half of the log are messages: an entry in the index of messages costs a third of an append.
-- name: session_bump_in_turn
update sessions set last_seq = last_seq + :events, message_count = message_count + :messages,
    log_bytes = log_bytes + :bytes,
    largest_bytes = case when largest_bytes < :largest then :largest else largest_bytes end,
    updated_at_us = :at_us, last_active_at_us = :at_us,
    dense_seq = case when (message_count + :messages) * 2 >= last_seq + :events then last_seq + :events
        else dense_seq end
where workspace_id = :workspace and id = :id and status in ('active', 'paused') and event_waits = 0
    and (:user is null or user_id = :user)
    and (:starts = 0 or agent_id is null
        or not exists (select 1 from agents a where a.workspace_id = :workspace and a.id = sessions.agent_id))
returning last_seq, case when to_index = 1 then updated_slot else -1 end, key_id, dense_seq = last_seq, :number

-- name: event_insert_in_turn
insert into events (workspace_id, session_id, seq, type, created_at_us, actor, run_id, action, duration_us, body, dense)
values (:workspace, :id, :seq, :type, :at_us, :actor, :run_id, :action, :duration_us, :body, :dense)

-- Arrays are JSON here.
-- name: search_docs_taken
select doc from search_docs where workspace_id = :workspace and doc in (select value from json_each(:docs))

-- Its planner would read all sessions of a workspace and look for the messages of each: `cross join` keeps the order.
-- name: search_locate
select d.doc, d.created_at_us, d.session_id, d.seq
from json_each(:docs) w
cross join search_docs d on d.workspace_id = :workspace and d.doc = w.value
cross join sessions s on s.workspace_id = d.workspace_id and s.id = d.session_id
where (:user is null or s.user_id = :user) and (:agent is null or s.agent_id = :agent)
    and (:session is null or s.id = :session)
