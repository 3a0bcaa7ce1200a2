-- In the order of `core.mail.Mail`.
-- name: mail_select
select m.workspace_id, m.id, m.inbox_id, m.session_id, m.user_id, m.received_at_us, m.size, m.envelope, m.extractions, m.key_id
from mails m

-- Nobody else changes the mail until this transaction ends. See postgres.sql.
-- name: mail_lock
select 1 from mails where workspace_id = :workspace and id = :id

-- A mail is gone with its inbox.
-- name: mail_get
{mail_select}
join inboxes i on i.workspace_id = m.workspace_id and i.id = m.inbox_id
where m.workspace_id = :workspace and m.id = :id and (cast(:user as text) is null or m.user_id = :user)

-- name: mail_content_get
select content from mail_contents where workspace_id = :workspace and mail_id = :mail_id

-- name: mail_raw_get
select raw from mail_contents where workspace_id = :workspace and mail_id = :mail_id

-- name: mail_insert
insert into mails (workspace_id, id, inbox_id, session_id, user_id, received_at_us, size, envelope, extractions, key_id)
values (:workspace, :id, :inbox_id, :session_id, :user_id, :received_at_us, :size, :envelope, :extractions, :key_id)

-- name: mail_content_insert
insert into mail_contents (workspace_id, mail_id, content, raw) values (:workspace, :mail_id, :content, :raw)

-- name: mail_extractions_update
update mails set extractions = :extractions where workspace_id = :workspace and id = :id

-- Mails that came to an inbox from a time on, the first first.
-- name: mails_since
{mail_select}
where m.workspace_id = :workspace and m.inbox_id = :inbox and m.received_at_us >= :since_us
order by m.received_at_us, m.id limit :limit

-- name: mails_of_session_since
{mail_select}
where m.workspace_id = :workspace and m.received_at_us >= :since_us and m.inbox_id in (
    select i.id from inboxes i
    where i.workspace_id = :workspace and i.session_id = :session and i.session_id is not null
)
order by m.received_at_us, m.id limit :limit

-- name: mails_of_session
{mail_select}
where m.workspace_id = :workspace and m.inbox_id in (
    select i.id from inboxes i
    where i.workspace_id = :workspace and i.session_id = :session and i.session_id is not null
) and (m.received_at_us, m.id) > (:at, :at_id)
order by m.received_at_us, m.id limit :limit

-- In one order: two processes that remove the same ones do not wait for each other in a circle.
-- name: mail_ids_of_inbox
select id from mails where workspace_id = :workspace and inbox_id = :inbox order by received_at_us, id limit :limit

-- name: mail_content_delete
delete from mail_contents where workspace_id = :workspace and mail_id = :mail_id

-- name: mail_delete
delete from mails where workspace_id = :workspace and id = :id

-- name: mail_size_select
select length(m.envelope) + length(m.extractions) from mails m

-- A mail without an inbox, which nobody sees.
-- name: mail_delete_loose
delete from mails where workspace_id = :workspace and id = :id and not exists (
    select 1 from inboxes i where i.workspace_id = :workspace and i.id = mails.inbox_id
)

-- name: mail_content_delete_loose
delete from mail_contents where workspace_id = :workspace and mail_id = :id and not exists (
    select 1 from mails m join inboxes i on i.workspace_id = m.workspace_id and i.id = m.inbox_id
    where m.workspace_id = :workspace and m.id = :id
)
