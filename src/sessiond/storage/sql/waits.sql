-- In the order of `core.wait.Wait`.
-- name: wait_select
select workspace_id, id, session_id, inbox_id, run_id, user_id, type, status, critical, terms, result, reason, actor,
    created_at_us, times_out_at_us, ended_at_us, key_id
from waits

-- A wait is gone with its session. Not asked by `exists`, for which PostgreSQL may read all sessions first.
-- name: wait_get
{wait_select}
where workspace_id = :workspace and id = :id and (cast(:user as text) is null or user_id = :user)
    and (session_id is null
        or (select s.id from sessions s where s.workspace_id = waits.workspace_id and s.id = waits.session_id) is not null)

-- name: wait_by_hook
{wait_select}
where hook_hash = :hook_hash

-- name: wait_insert
insert into waits (workspace_id, id, session_id, inbox_id, run_id, user_id, type, status, critical, terms, result,
    reason, actor, created_at_us, times_out_at_us, ended_at_us, due_at_us, hook_hash, key_id)
values (:workspace, :id, :session_id, :inbox_id, :run_id, :user_id, :type, :status, :critical, :terms, :result,
    :reason, :actor, :created_at_us, :times_out_at_us, :ended_at_us, :due_at_us, :hook_hash, :key_id)

-- Once: whoever comes second finds that it has ended.
-- Its key, which stays until this transaction ends. See postgres.sql.
-- name: wait_lock
select key_id from waits where workspace_id = :workspace and id = :id

-- name: wait_end
update waits set status = :status, result = :result, reason = :reason, ended_at_us = :at_us, due_at_us = null
where workspace_id = :workspace and id = :id and status = 'pending'
returning id

-- What it has seen of the log it need not see again.
-- name: wait_put_off
update waits set due_at_us = times_out_at_us, terms = :terms where workspace_id = :workspace and id = :id and status = 'pending'

-- name: wait_put_away
update waits set due_at_us = null where workspace_id = :workspace and id = :id

-- What pending waits of one inbox, and of any inbox of its session, a mail may end.
-- name: waits_for_mail
{wait_select}
where workspace_id = :workspace and inbox_id = :inbox and status = 'pending' and inbox_id is not null
union all
{wait_select}
where workspace_id = :workspace and session_id = :session and status = 'pending' and session_id is not null
    and inbox_id is null and type in ('email', 'otp', 'magic_link', 'password_reset')

-- name: waits_pending
{wait_select}
where workspace_id = :workspace and session_id = :session and status = 'pending' and session_id is not null
order by id limit :limit

-- name: waits_pending_in_inbox
{wait_select}
where workspace_id = :workspace and inbox_id = :inbox and status = 'pending' and inbox_id is not null
order by id limit :limit

-- name: waits_pending_count
select count(*) from waits
where workspace_id = :workspace and session_id = :session and status = 'pending' and session_id is not null

-- name: waits_pending_in_inbox_count
select count(*) from waits
where workspace_id = :workspace and inbox_id = :inbox and status = 'pending' and inbox_id is not null

-- name: waits_of_run
{wait_select}
where workspace_id = :workspace and run_id = :run and run_id is not null
order by created_at_us, id limit :limit

-- name: wait_ids
select id from waits where workspace_id = :workspace and session_id = :session and session_id is not null
order by created_at_us, id limit :limit

-- name: wait_count_select
select count(*) from waits

-- name: wait_size_select
select length(terms) + coalesce(length(result), 0) from waits

-- name: waits_due
{wait_select}
where due_at_us <= :now_us and status = 'pending' and due_at_us is not null and workspace_id not in ({locked_workspaces})
order by due_at_us limit :limit

-- name: waits_next_due
select min(due_at_us) from waits where status = 'pending' and due_at_us is not null and workspace_id not in ({locked_workspaces})

-- The log of a session has grown: those who wait for an event of it are to be looked at.
-- name: waits_for_events_due
update waits set due_at_us = 0
where workspace_id = :workspace and session_id = :session and type = 'event' and status = 'pending'
    and session_id is not null and (due_at_us is null or due_at_us > 0)

-- name: session_event_waits
update sessions set event_waits = event_waits + :n where workspace_id = :workspace and id = :id

-- name: waits_delete_pending
delete from waits
where workspace_id = :workspace and session_id = :session and status = 'pending' and session_id is not null

-- name: waits_delete_some
delete from waits where (workspace_id, id) in (
    select workspace_id, id from waits
    where workspace_id = :workspace and session_id = :session and session_id is not null
    order by created_at_us, id limit :limit
)
returning id

-- name: waits_of_session_count
select count(*) from waits where workspace_id = :workspace and session_id = :session and session_id is not null

-- Of a user, and of no session.
-- name: waits_delete_alone
delete from waits where (workspace_id, id) in (
    select workspace_id, id from waits
    where workspace_id = :workspace and user_id = :user and session_id is null and user_id is not null
        and created_at_us <= :until_us
    order by id limit :limit
)
returning id

-- name: waits_rebind
update waits set user_id = :user
where workspace_id = :workspace and session_id = :session and session_id is not null

-- name: wait_hook
select hook_hash from waits where workspace_id = :workspace and id = :id
