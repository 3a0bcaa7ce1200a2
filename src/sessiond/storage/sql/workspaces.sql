-- name: workspace_insert
insert into workspaces (id, database_id_hash, created_at_us) values (:id, :database_id_hash, :created_at_us)
on conflict (id) do nothing
returning id

-- name: workspace_get
select id, database_id_hash, created_at_us, retention_seconds, audit_reads, key_id from workspaces where id = :id

-- name: workspace_by_key
select w.id, w.database_id_hash, w.created_at_us, w.retention_seconds, w.audit_reads, w.key_id
from keys k
join workspaces w on w.id = k.workspace_id
where k.id = :key_id

-- name: workspace_list
select id, database_id_hash, created_at_us, retention_seconds, audit_reads, key_id
from workspaces where id > :after order by id limit :limit

-- name: workspace_of_operator
select id from workspaces order by case when id = :default then 0 else 1 end, created_at_us, id limit 1

-- name: workspace_audit_reads
update workspaces set audit_reads = :wanted where id = :id
returning id

-- name: workspace_retention
update workspaces set retention_seconds = :seconds where id = :id
returning id

-- name: workspaces_with_retention
select id, retention_seconds from workspaces where retention_seconds is not null order by id

-- Two imports into one workspace, one of which removes what it takes for left behind. See postgres.sql.
-- name: workspace_lock
select 1 from workspaces where id = :workspace
