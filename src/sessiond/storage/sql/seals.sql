-- name: seal_key_get
select kind, parent_id, wrapped from seal_keys where workspace_id = :workspace and id = :id

-- name: seal_key_insert
insert into seal_keys (workspace_id, id, kind, parent_id, session_id, wrapped, salt, verifier, created_at_us)
values (:workspace, :id, :kind, :parent_id, :session_id, :wrapped, :salt, :verifier, :at_us)

-- In the order of `storage.seals.Root`. What is no session's is a workspace's.
-- name: seal_key_roots
select id, kind, wrapped, salt, verifier, created_at_us, parent_id from seal_keys
where workspace_id = :workspace and session_id is null
order by created_at_us desc, id

-- Keys of clients, of all workspaces.
-- name: seal_keys_of_clients
select workspace_id, id from seal_keys where kind = 'client'

-- Keys of workspaces, of all of them: for a process that has no master key.
-- name: seal_keys_of_workspaces
select workspace_id, id from seal_keys where kind in ('client', 'server')

-- name: workspace_seal_state
select key_id, key_changing from workspaces where id = :workspace

-- name: seal_key_of_client
select id, kind, wrapped, salt, verifier, created_at_us, parent_id from seal_keys
where workspace_id = :workspace and kind = 'client'
order by created_at_us desc, id limit 1

-- name: workspace_seal
update workspaces set key_id = :key_id, key_changing = :changing where id = :workspace

-- Whether a workspace has anything to be sealed.
-- name: workspace_has_content
select 1 where exists (select 1 from sessions where workspace_id = :workspace)
    or exists (select 1 from runs where workspace_id = :workspace)
    or exists (select 1 from inboxes where workspace_id = :workspace)
    or exists (select 1 from waits where workspace_id = :workspace)
    or exists (select 1 from mails where workspace_id = :workspace)

-- name: session_key
select key_id from sessions where workspace_id = :workspace and id = :id

-- name: session_seal
select key_id, resealing_seq from sessions where workspace_id = :workspace and id = :id

-- A key that a session will have. What runs have that outlived another session of its name, is none.
-- name: seal_key_to_come
select id from seal_keys
where workspace_id = :workspace and session_id = :session and session_id is not null and parent_id = :parent
    and not exists (select 1 from runs r
        where r.workspace_id = :workspace and r.key_id = seal_keys.id and r.session_id is null)
order by id limit 1

-- name: seal_key_rows
select workspace_id, id, kind, parent_id, session_id, wrapped, salt, verifier, created_at_us from seal_keys
where (workspace_id, id) > (:workspace, :id)
order by workspace_id, id limit :limit

-- name: seal_key_restore
insert into seal_keys (workspace_id, id, kind, parent_id, session_id, wrapped, salt, verifier, created_at_us)
values (:workspace_id, :id, :kind, :parent_id, :session_id, :wrapped, :salt, :verifier, :created_at_us)
on conflict (workspace_id, id) do nothing
returning id

-- name: seal_key_destroy
delete from seal_keys where workspace_id = :workspace and session_id = :session and session_id is not null
returning id

-- Workspaces that this process cannot look into. See postgres.sql.
-- name: locked_workspaces
select value from json_each(:locked)
