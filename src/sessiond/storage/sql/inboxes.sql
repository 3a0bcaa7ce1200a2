-- In the order of `core.inbox.Inbox`.
-- name: inbox_select
select workspace_id, id, session_id, user_id, address, purpose, metadata, actor, mail_count, mail_bytes, created_at_us,
    expires_at_us, expired_at_us, key_id
from inboxes

-- name: inbox_get
{inbox_select}
where workspace_id = :workspace and id = :id and (cast(:user as text) is null or user_id = :user)

-- name: inbox_by_address
{inbox_select}
where address = :address

-- name: inbox_insert
insert into inboxes (workspace_id, id, session_id, user_id, address, purpose, metadata, actor, mail_count, mail_bytes,
    created_at_us, expires_at_us, expired_at_us, key_id)
values (:workspace, :id, :session_id, :user_id, :address, :purpose, :metadata, :actor, :mail_count, :mail_bytes, :created_at_us,
    :expires_at_us, :expired_at_us, :key_id)

-- The inbox, for as long as this transaction lasts nobody else's. See postgres.sql.
-- name: inbox_lock
select 1 from inboxes where workspace_id = :workspace and id = :id

-- name: inbox_count_up
update inboxes set mail_count = mail_count + 1, mail_bytes = mail_bytes + :size
where workspace_id = :workspace and id = :id

-- name: inbox_expire
update inboxes set expired_at_us = :at_us
where workspace_id = :workspace and id = :id and expired_at_us is null
returning id

-- name: inbox_delete
delete from inboxes where workspace_id = :workspace and id = :id
returning mail_count

-- Of a user, and of no session.
-- name: inboxes_alone
{inbox_select}
where workspace_id = :workspace and user_id = :user and session_id is null and user_id is not null
    and created_at_us <= :until_us
order by id limit :limit

-- name: inbox_count_select
select count(*) from inboxes

-- name: inbox_ids
select id from inboxes where workspace_id = :workspace and session_id = :session and session_id is not null
order by created_at_us, id limit :limit

-- name: inboxes_expiring
{inbox_select}
where expires_at_us <= :now_us and expires_at_us is not null and expired_at_us is null and workspace_id not in ({locked_workspaces})
order by expires_at_us limit :limit

-- name: inboxes_next_expiry
select min(expires_at_us) from inboxes where expires_at_us is not null and expired_at_us is null and workspace_id not in ({locked_workspaces})

-- name: inboxes_rebind
update inboxes set user_id = :user
where workspace_id = :workspace and session_id = :session and session_id is not null

-- name: mails_rebind
update mails set user_id = :user
where workspace_id = :workspace
    and inbox_id in (
        select id from inboxes where workspace_id = :workspace and session_id = :session and session_id is not null
    )

-- Expired for longer than their workspace keeps what has ended.
-- name: inboxes_kept_long
{inbox_select}
where workspace_id = :workspace and expired_at_us < :before_us and expired_at_us is not null
order by expired_at_us limit :limit
