-- name: trash_put
insert into trash (workspace_id, kind, id, erasure_id) values (:workspace, :kind, :id, :erasure)
on conflict (workspace_id, kind, id) do nothing

-- One sweeper looks at a time. See postgres.sql.
-- name: trash_find
select workspace_id, kind, id, erasure_id from trash order by workspace_id, kind, id limit 1

-- name: trash_has
select 1 from trash where workspace_id = :workspace and kind = :kind and id = :id

-- name: trash_has_of_erasure
select 1 from trash where workspace_id = :workspace and erasure_id = :erasure and erasure_id is not null limit 1

-- name: trash_drop
delete from trash where workspace_id = :workspace and kind = :kind and id = :id
