-- The row is there before the work is done: a second request with the same key waits for the first one's commit.
-- name: idempotency_claim
insert into idempotency (workspace_id, user_id, key, fingerprint, created_at_us)
values (:workspace, :user, :key, :fingerprint, :at_us)
on conflict (workspace_id, user_id, key) do update set fingerprint = excluded.fingerprint, answer = null,
    created_at_us = excluded.created_at_us where idempotency.created_at_us < :expired_us
returning key

-- name: idempotency_get
select fingerprint, answer from idempotency where workspace_id = :workspace and user_id = :user and key = :key

-- name: idempotency_answer
update idempotency set answer = :answer where workspace_id = :workspace and user_id = :user and key = :key

-- name: idempotency_sweep
delete from idempotency where (workspace_id, user_id, key) in (
    select workspace_id, user_id, key from idempotency where created_at_us < :expired_us
    order by created_at_us limit :limit
)
returning key
