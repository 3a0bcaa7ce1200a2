-- What a session is made of, in the order of `core.session.Session`.
-- name: session_select
select s.workspace_id, s.id, s.agent_id, s.user_id, s.task_id, s.name, s.user_name, s.user_email, s.accept_terms,
    s.status, s.message_count, s.last_seq, s.log_bytes, s.largest_bytes, s.prompt_tokens, s.completion_tokens, s.parent,
    s.created_at_us, s.updated_at_us, s.last_active_at_us, s.completed_at_us, s.expires_at_us,
    s.multitask_strategy, case when s.agent_id is not null then
        exists (select 1 from agents a where a.workspace_id = s.workspace_id and a.id = s.agent_id) end,
    d.metadata, d.data, d.prompt, s.key_id, d.sealed, s.details_bytes
from sessions s
left join session_details d on d.workspace_id = s.workspace_id and d.session_id = s.id

-- name: session_get
{session_select}
where s.workspace_id = :workspace and s.id = :id and (cast(:user as text) is null or s.user_id = :user)

-- The session, for as long as this transaction lasts nobody else's. See postgres.sql.
-- What a follower must know to see whether there is news.
-- name: session_glance
select last_seq, created_at_us, log_bytes, largest_bytes from sessions
where workspace_id = :workspace and id = :id and (cast(:user as text) is null or user_id = :user)

-- name: session_lock
select 1 from sessions where workspace_id = :workspace and id = :id

-- Nothing where new sessions get a key of another than `under`: whoever asks has not heard of a change. Nor while the log
-- of one that had the id is being removed.
-- name: session_insert
insert into sessions (workspace_id, id, agent_id, user_id, task_id, name, user_name, user_email, accept_terms, status,
    message_count, last_seq, log_bytes, largest_bytes, prompt_tokens, completion_tokens, parent, created_at_us, updated_at_us,
    last_active_at_us, completed_at_us, expires_at_us, multitask_strategy, search_text, updated_slot, details_bytes, key_id)
select :workspace, :id, :agent_id, :user_id, :task_id, :name, :user_name, :user_email, :accept_terms, :status,
    :message_count, :last_seq, :log_bytes, :largest_bytes, :prompt_tokens, :completion_tokens, :parent, :created_at_us, :updated_at_us,
    :last_active_at_us, :completed_at_us, :expires_at_us, :multitask_strategy, :search_text, :updated_slot, :details_bytes, :key_id
where (select w.key_id from workspaces w where w.id = :workspace) is not distinct from :under
    and not exists (select 1 from trash where workspace_id = :workspace and kind = 'session' and id = :id)
on conflict (workspace_id, id) do nothing
returning case when agent_id is not null then
    exists (select 1 from agents a where a.workspace_id = sessions.workspace_id and a.id = sessions.agent_id) end

-- name: session_update
update sessions set agent_id = :agent_id, user_id = :user_id, task_id = :task_id, name = :name,
    user_name = :user_name, user_email = :user_email, accept_terms = :accept_terms, status = :status,
    message_count = :message_count, last_seq = :last_seq, log_bytes = :log_bytes, largest_bytes = :largest_bytes, updated_at_us = :updated_at_us,
    last_active_at_us = :last_active_at_us, completed_at_us = :completed_at_us, expires_at_us = :expires_at_us,
    multitask_strategy = :multitask_strategy, search_text = :search_text, updated_slot = :updated_slot, to_index = 1,
    details_bytes = :details_bytes
where workspace_id = :workspace and id = :id
returning event_waits

-- An append to a session that is under way: takes the next numbers and says which was the last, and where the session
-- stands in the order of updates: nowhere, so that its slot is moved, when nobody looks for what is not indexed in it.
-- So the index costs an append nothing. What makes an agent work (`starts`), or what somebody waits for, takes the
-- longer way.
-- A statement of its own, once in ten seconds: SQLite rewrites an index whenever its column is set, even to the same.
-- name: session_slot
update sessions set updated_slot = :slot, to_index = 1 where workspace_id = :workspace and id = :id

-- name: session_delete
delete from sessions where workspace_id = :workspace and id = :id

-- name: session_details_put
insert into session_details (workspace_id, session_id, metadata, data, prompt, sealed)
values (:workspace, :id, :metadata, :data, :prompt, :sealed)
on conflict (workspace_id, session_id) do update set metadata = excluded.metadata, data = excluded.data,
    prompt = excluded.prompt, sealed = excluded.sealed

-- name: session_details_delete
delete from session_details where workspace_id = :workspace and session_id = :id

-- name: session_metadata_insert
insert into session_metadata (workspace_id, key, value, created_at_us, session_id)
values (:workspace, :key, :value, :created_at_us, :id)

-- All that a sealed session is found by: its key is empty, see `storage/metadata_index.py`.
-- name: session_metadata_hashed_delete
delete from session_metadata where workspace_id = :workspace and session_id = :id and key = ''

-- name: session_metadata_delete
delete from session_metadata
where workspace_id = :workspace and key = :key and value = :value and created_at_us = :created_at_us
    and session_id = :id

-- name: session_size_select
select s.details_bytes from sessions s

-- name: session_count_select
select count(*) from sessions s

-- Nobody is counted there any more. A row that is counted up meanwhile is looked at again, and stays.
-- name: session_count_sweep
delete from session_counts where n = 0 and (workspace_id, field, value, shard) in (
    select workspace_id, field, value, shard from session_counts where n = 0 limit :limit
)
returning n

-- name: session_count_kept
-- PostgreSQL's sum of bigints is a numeric.
select cast(coalesce(sum(n), 0) as bigint) from session_counts
where workspace_id = :workspace and field = :field and value = :value

-- A session, unless somebody has it in hand just now. See postgres.sql.
-- name: session_lock_free
select 1 from sessions where workspace_id = :workspace and id = :id

-- What is said in a session's log from outside, whatever its state.
-- name: session_note
update sessions set last_seq = last_seq + :events, message_count = message_count + :messages,
    log_bytes = log_bytes + :bytes,
    largest_bytes = case when largest_bytes < :largest then :largest else largest_bytes end, updated_at_us = :at_us
where workspace_id = :workspace and id = :id
returning last_seq, case when to_index = 1 then updated_slot else -1 end, event_waits, key_id

-- Open sessions whose time is over, of all workspaces.
-- name: sessions_expired
select workspace_id, id from sessions
where expires_at_us <= :now_us and expires_at_us is not null and status in ('created', 'active', 'paused') and workspace_id not in ({locked_workspaces})
order by expires_at_us limit :limit

-- name: session_expiry_drop
update sessions set expires_at_us = null where workspace_id = :workspace and id = :id

-- name: sessions_next_expiry
select min(expires_at_us) from sessions
where expires_at_us is not null and status in ('created', 'active', 'paused') and workspace_id not in ({locked_workspaces})

-- name: sessions_kept_long
select id from sessions
where workspace_id = :workspace and completed_at_us < :before_us and completed_at_us is not null
order by completed_at_us limit :limit

-- Sessions of a user that were made up to a time.
-- name: sessions_of_user
select id from sessions
where workspace_id = :workspace and user_id = :user and user_id is not null and created_at_us <= :until_us
order by created_at_us, id limit :limit

-- name: sessions_of_parent
select id from sessions where workspace_id = :workspace and parent = :parent and parent is not null
order by id limit :limit

-- Sessions in the order of their ids, for who goes through all of them.
-- name: session_ids
select id from sessions
where workspace_id = :workspace and id > :after and id <= :until
    and (cast(:agent as text) is null or agent_id = :agent) and (cast(:user as text) is null or user_id = :user)
order by id limit :limit

-- name: session_last_id
select max(id) from sessions
where workspace_id = :workspace
    and (cast(:agent as text) is null or agent_id = :agent) and (cast(:user as text) is null or user_id = :user)

-- name: session_open_runs_set
update sessions set open_runs = :n where workspace_id = :workspace and id = :id

-- name: session_has_left
select exists (select 1 from events where workspace_id = :workspace and session_id = :session)
    or exists (select 1 from runs where workspace_id = :workspace and session_id = :session and session_id is not null)
    or exists (select 1 from waits where workspace_id = :workspace and session_id = :session and session_id is not null)

-- name: session_restored
select (select count(*) from events where workspace_id = :workspace and session_id = :session),
    (select count(*) from runs where workspace_id = :workspace and session_id = :session and session_id is not null),
    (select count(*) from waits where workspace_id = :workspace and session_id = :session and session_id is not null)
