-- What is kept in another way than it is to be: under another key than `:root`, the workspace's; 0 is plain text.

-- name: sessions_to_reseal
select s.id from sessions s
left join seal_keys k on k.workspace_id = s.workspace_id and k.id = s.key_id
where s.workspace_id = :workspace and s.id > :after
    and (s.resealing_seq is not null or coalesce(k.parent_id, 0) <> :root)
order by s.id limit :limit

-- Its own name, since a save leaves a session's key as it is.
-- name: session_rekey
update sessions set key_id = :key_id, resealing_seq = :resealing_seq, name = :name, user_name = :user_name,
    user_email = :user_email, search_text = :search_text, details_bytes = :details_bytes
where workspace_id = :workspace and id = :id

-- name: session_resealed_to
update sessions set resealing_seq = :seq where workspace_id = :workspace and id = :id

-- name: events_to_reseal
select seq, body from events
where workspace_id = :workspace and session_id = :id and seq <= :seq
order by seq desc limit :limit

-- Whether a session had another key before.
-- name: session_had_key
select 1 from seal_keys where workspace_id = :workspace and session_id = :session and session_id is not null
    and id <> :key
limit 1

-- name: event_body
update events set body = :body where workspace_id = :workspace and session_id = :id and seq = :seq

-- name: runs_to_reseal
{run_select}
where workspace_id = :workspace and session_id = :session and session_id is not null
    and coalesce(key_id, 0) <> :key
order by queued_seq limit :limit

-- name: waits_to_reseal
{wait_select}
where workspace_id = :workspace and session_id = :session and session_id is not null
    and coalesce(key_id, 0) <> :key
order by created_at_us, id limit :limit

-- name: inboxes_to_reseal
{inbox_select}
where workspace_id = :workspace and session_id = :session and session_id is not null
    and coalesce(key_id, 0) <> :key
order by created_at_us, id limit :limit

-- name: mails_to_reseal
{mail_select}
where m.workspace_id = :workspace and coalesce(m.key_id, 0) <> :key and m.inbox_id in (
    select i.id from inboxes i
    where i.workspace_id = :workspace and i.session_id = :session and i.session_id is not null
)
order by m.received_at_us, m.id limit :limit

-- The same of what belongs to no session: its key is the workspace's own.
-- name: runs_apart_to_reseal
{run_select}
where workspace_id = :workspace and session_id is null and coalesce(key_id, 0) <> :key
order by id limit :limit

-- name: waits_apart_to_reseal
{wait_select}
where workspace_id = :workspace and session_id is null and coalesce(key_id, 0) <> :key
order by id limit :limit

-- name: inboxes_apart_to_reseal
{inbox_select}
where workspace_id = :workspace and session_id is null and coalesce(key_id, 0) <> :key
order by id limit :limit

-- name: mails_apart_to_reseal
{mail_select}
where m.workspace_id = :workspace and m.session_id is null and coalesce(m.key_id, 0) <> :key
order by m.id limit :limit

-- name: run_rekey
update runs set key_id = :key, input = :input, output = :output, error = :error, ask = :ask, answer = :answer
where workspace_id = :workspace and id = :id

-- name: wait_rekey
update waits set key_id = :key, terms = :terms, result = :result, reason = :reason
where workspace_id = :workspace and id = :id

-- name: inbox_rekey
update inboxes set key_id = :key, purpose = :purpose, metadata = :metadata
where workspace_id = :workspace and id = :id

-- name: mail_rekey
update mails set key_id = :key, envelope = :envelope, extractions = :extractions
where workspace_id = :workspace and id = :id

-- name: mail_content_rekey
update mail_contents set content = :content, raw = :raw where workspace_id = :workspace and mail_id = :mail_id

-- name: answers_after
select user_id, key, answer from idempotency
where workspace_id = :workspace and (user_id, key) > (:user, :key) and answer is not null
order by user_id, key limit :limit

-- name: answer_rekey
update idempotency set fingerprint = :fingerprint, answer = :answer
where workspace_id = :workspace and user_id = :user and key = :key and answer = :kept

-- Keys that a session had before; what runs have that outlived another session of its name, stays.
-- name: seal_keys_drop_of_session
delete from seal_keys where workspace_id = :workspace and session_id = :session and session_id is not null
    and id <> :key
    and not exists (select 1 from runs r where r.workspace_id = :workspace and r.key_id = seal_keys.id)

-- name: seal_keys_drop_others
delete from seal_keys where workspace_id = :workspace
    and case when session_id is null then id else parent_id end <> :key
returning id

-- A client's key becomes one that the workspace's next key wraps.
-- name: seal_key_wrap
update seal_keys set kind = 'content', parent_id = :parent, wrapped = :wrapped, salt = null, verifier = null
where workspace_id = :workspace and id = :id

-- All that is sealed of a workspace, or would be, and where it stands. Nobody sorts it, nor reads more of a text than
-- its beginning. `:plain`, an empty text, stands for what is in columns of other types.
-- name: sealed_texts
select 'events' as kind, 'event ' || session_id || ' ' || seq as place, body as kept from events
where workspace_id = :workspace
union all select 'sessions', 'session ' || session_id, sealed from session_details
where workspace_id = :workspace and sealed is not null
union all select 'sessions', 'session ' || s.id, :plain from sessions s
left join session_details d on d.workspace_id = s.workspace_id and d.session_id = s.id
where s.workspace_id = :workspace
    and (coalesce(s.name, s.user_name, s.user_email, d.prompt) is not null or coalesce(d.metadata, d.data) is not null)
union all select 'runs', 'run ' || id || ' input', input from runs
where workspace_id = :workspace and input is not null
union all select 'runs', 'run ' || id || ' output', output from runs
where workspace_id = :workspace and output is not null
union all select 'runs', 'run ' || id || ' error', error from runs
where workspace_id = :workspace and error is not null and error <> :deleted
union all select 'runs', 'run ' || id || ' ask', ask from runs
where workspace_id = :workspace and ask is not null
union all select 'runs', 'run ' || id || ' answer', answer from runs
where workspace_id = :workspace and answer is not null
union all select 'waits', 'wait ' || id || ' terms', terms from waits where workspace_id = :workspace
union all select 'waits', 'wait ' || id || ' result', result from waits
where workspace_id = :workspace and result is not null
union all select 'waits', 'wait ' || id || ' reason', :plain from waits
where workspace_id = :workspace and reason is not null
union all select 'inboxes', 'inbox ' || id, metadata from inboxes
where workspace_id = :workspace and metadata is not null
union all select 'inboxes', 'inbox ' || id || ' purpose', :plain from inboxes
where workspace_id = :workspace and purpose is not null
union all select 'mails', 'mail ' || id || ' envelope', envelope from mails where workspace_id = :workspace
union all select 'mails', 'mail ' || id || ' extractions', extractions from mails where workspace_id = :workspace
union all select 'mails', 'mail ' || mail_id || ' content', content from mail_contents where workspace_id = :workspace
union all select 'mails', 'mail ' || mail_id || ' raw', raw from mail_contents where workspace_id = :workspace
union all select 'answers', 'answer ' || user_id || ' ' || key, answer from idempotency
where workspace_id = :workspace and answer is not null

-- What all these say of their keys: the beginning of each; null of plain ones.
-- name: seal_heads
select kind, case when substr(kept, 1, 1) = :sealed then substr(kept, 1, 9) end as head, count(*)
from ({sealed_texts}) as texts
group by kind, head

-- One of them that begins so; an empty `:head` means one in plain text.
-- name: seal_place
select place from ({sealed_texts}) as texts
where kind = :kind and case when substr(kept, 1, 1) = :sealed then substr(kept, 1, 9) else :plain end = :head
limit 1

-- name: seal_key_parents
select id, kind, parent_id, session_id from seal_keys where workspace_id = :workspace and id > :after
order by id limit :limit

-- Whether all that was under way at a mark has ended. Here writers come one after the other. See postgres.sql.
-- name: transactions_mark
select 0

-- name: transactions_settled
select 1 where :mark is not null
