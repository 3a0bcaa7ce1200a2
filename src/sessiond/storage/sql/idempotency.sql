-- The row is there before the work is done: a second request with the same key waits for the first one's commit.
-- name: idempotency_claim
insert into idempotency (workspace_id, user_id, key, fingerprint, created_at_us)
values (:workspace, :user, :key, :fingerprint, :at_us)
on conflict (workspace_id, user_id, key) do update set fingerprint = excluded.fingerprint, answer = null,
    created_at_us = excluded.created_at_us, session_id = null, about_user_id = null where idempotency.created_at_us < :expired_us
returning key

-- An answer goes with the session that it tells of, also before it is overwritten.
-- name: idempotency_get
select fingerprint,
    case when session_id is null or (
            select s.id from sessions s where s.workspace_id = idempotency.workspace_id and s.id = session_id
        ) is not null then answer end,
    session_id
from idempotency where workspace_id = :workspace and user_id = :user and key = :key

-- name: idempotency_answer
update idempotency set answer = :answer, session_id = :session, about_user_id = :about_user
where workspace_id = :workspace and user_id = :user and key = :key

-- The key stays taken, and nothing else of it: not even a hash of what was asked.
-- name: idempotency_forget_session
update idempotency set fingerprint = :nothing, answer = null, session_id = null
where (workspace_id, user_id, key) in (
    select workspace_id, user_id, key from idempotency
    where workspace_id = :workspace and session_id = :session and session_id is not null
    order by user_id, key limit :limit
)
returning key

-- name: idempotency_forget_about_user
update idempotency set fingerprint = :nothing, answer = null, session_id = null, about_user_id = null
where (workspace_id, user_id, key) in (
    select workspace_id, user_id, key from idempotency
    where workspace_id = :workspace and about_user_id = :about_user and about_user_id is not null
    order by user_id, key limit :limit
)
returning key

-- name: idempotency_forget_of_user
update idempotency set fingerprint = :nothing, answer = null, session_id = null, about_user_id = null
where (workspace_id, user_id, key) in (
    select workspace_id, user_id, key from idempotency
    where workspace_id = :workspace and user_id = :user and answer is not null and created_at_us <= :until_us
    order by key limit :limit
)
returning key

-- name: idempotency_sweep
delete from idempotency where (workspace_id, user_id, key) in (
    select workspace_id, user_id, key from idempotency where created_at_us < :expired_us
    order by created_at_us limit :limit
)
returning key
