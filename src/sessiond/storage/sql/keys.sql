-- name: key_insert
insert into keys (id, workspace_id, name, hash, scopes, dialect, user_id, created_at_us, expires_at_us)
values (:id, :workspace, :name, :hash, :scopes, :dialect, :user_id, :created_at_us, :expires_at_us)

-- name: key_by_hash
select k.id, k.workspace_id, k.name, k.scopes, k.dialect, k.user_id, k.created_at_us, k.expires_at_us, k.revoked_at_us,
    k.last_used_at_us, w.database_id_hash,
    (select max(s.id) from seal_keys s where s.workspace_id = w.id and s.kind = 'client'),
    case when w.audit_reads = 1 and w.key_id is not null then 1 else 0 end
from keys k
join workspaces w on w.id = k.workspace_id
where k.hash = :hash

-- name: workspace_of_key
select w.database_id_hash,
    (select max(s.id) from seal_keys s where s.workspace_id = w.id and s.kind = 'client'),
    case when w.audit_reads = 1 and w.key_id is not null then 1 else 0 end
from workspaces w
where w.id = :id

-- name: key_list
select id, workspace_id, name, scopes, dialect, user_id, created_at_us, expires_at_us, revoked_at_us, last_used_at_us
from keys
where workspace_id = :workspace and (created_at_us, id) > (:after_us, :after_id)
order by created_at_us, id
limit :limit

-- name: key_revoke
update keys set revoked_at_us = coalesce(revoked_at_us, :at_us)
where workspace_id = :workspace and id = :id
returning id

-- name: key_touch
update keys set last_used_at_us = :at_us where id = :id and (last_used_at_us is null or last_used_at_us < :at_us)
