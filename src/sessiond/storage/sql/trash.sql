-- name: trash_put
insert into trash (workspace_id, kind, id) values (:workspace, :kind, :id)
on conflict (workspace_id, kind, id) do nothing

-- name: trash_find
select workspace_id, kind, id from trash order by workspace_id, kind, id limit 1

-- name: trash_drop
delete from trash where workspace_id = :workspace and kind = :kind and id = :id
