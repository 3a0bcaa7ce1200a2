-- In the order of `core.erasure.Erasure`.
-- name: erasure_select
select workspace_id, id, kind, subject, salt, subject_hash, actor, requested_at_us, completed_at_us, counts,
    sessions_digest, receipt, signature
from erasures

-- name: erasure_get
{erasure_select}
where workspace_id = :workspace and id = :id

-- One that was begun and not ended.
-- name: erasure_under_way
{erasure_select}
where workspace_id = :workspace and kind = :kind and subject = :subject and subject is not null

-- name: erasure_insert
insert into erasures (workspace_id, id, kind, subject, salt, subject_hash, actor, requested_at_us, completed_at_us,
    counts, sessions_digest, receipt, signature)
values (:workspace, :id, :kind, :subject, :salt, :subject_hash, :actor, :requested_at_us, :completed_at_us, :counts,
    :sessions_digest, :receipt, :signature)
on conflict (workspace_id, kind, subject) where subject is not null do nothing

-- The erasure, for as long as this transaction lasts nobody else's. See postgres.sql.
-- name: erasure_lock
select 1 from erasures where workspace_id = :workspace and id = :id

-- name: erasure_update
update erasures set subject = :subject, completed_at_us = :completed_at_us, counts = :counts,
    sessions_digest = :sessions_digest, receipt = :receipt, signature = :signature
where workspace_id = :workspace and id = :id

-- name: signing_key_get
select public_key, private_key from signing_keys where workspace_id = :workspace

-- name: signing_key_insert
insert into signing_keys (workspace_id, public_key, private_key, created_at_us)
values (:workspace, :public_key, :private_key, :at_us)
on conflict (workspace_id) do nothing
